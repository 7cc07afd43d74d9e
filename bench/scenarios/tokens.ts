/*
 * What it costs to sign and to check an access token, by the ways there are, on one thread:
 *
 *     npm run bench:tokens -- [--tokens 3000] [--rounds 7] [--json]
 *
 * CPU time, so that a busy machine does not matter; medians of rounds of everything. This is why
 * `plugins/http/jwt.ts` checks by `request.jwtVerify()`, and why `plugins/tokens/access-tokens.ts` signs by
 * node:crypto.
 */
import { createPublicKey, generateKeyPairSync, type JsonWebKey, randomUUID } from 'node:crypto'
import jwt from '@fastify/jwt'
import Fastify, { type FastifyRequest } from 'fastify'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import { inFlight, meter } from '../meter.ts'
import { makeDir, onEnd } from '../processes.ts'
import { measureGroups, readFlags, runScenario } from './scenario.ts'

const { flags } = readFlags({ tokens: 3_000, rounds: 7 })

await runScenario(async () => {
  const config = readConfig({ AUTH_DATA_DIR: makeDir(), AUTH_ISSUER: 'http://localhost:3000', LOG_LEVEL: 'silent' })
  const app = await buildApp(config)
  onEnd(() => app.close())
  const subject = { sub: randomUUID(), client_id: 'first-party', sid: randomUUID(), aud: config.AUTH_AUDIENCE }
  const issue = () => app.accessTokens.issue({ ...subject, generations: { user: 0, client: 0 } })
  const [jwk] = await app.signingKeys.publicJwks()
  const key = String(createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' }).export({ format: 'pem', type: 'spki' }))

  const pair = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { format: 'pem', type: 'spki' },
    privateKeyEncoding: { format: 'pem', type: 'pkcs8' },
  })
  const signing = Fastify()
  const secret = { public: pair.publicKey, private: pair.privateKey }
  await signing.register(jwt, { secret, sign: { algorithm: 'ES256', kid: 'bench', expiresIn: '10m' } })
  await signing.ready()

  // Any request will do: `jwtVerify` asks nothing of it but the token.
  const { verify } = app.accessTokens
  let request: FastifyRequest | undefined
  app.accessTokens.verify = (of, token) => {
    request = of
    return verify(of, token)
  }
  const again = await issue()
  await app.inject({ url: '/protected', headers: { authorization: `Bearer ${again}` } })

  const ways: Record<string, (token: string) => unknown> = {
    'check: a token not seen before': (token) => verify(request as FastifyRequest, token),
    'check: the same token again': () => verify(request as FastifyRequest, again),
    'check: app.jwt.verify with the key given': (token) => app.jwt.verify(token, { key }),
    'sign: node:crypto, the key kept': issue,
    'sign: app.jwt.sign, the key fixed': () =>
      signing.jwt.sign({ ...subject, iss: config.AUTH_ISSUER, jti: randomUUID() }),
  }
  const cases = Object.entries(ways).map(([title, work]) => ({
    title,
    async run() {
      const tokens = await inFlight(flags.tokens, flags.tokens, issue)
      return meter({ calls: flags.tokens }, 1, async (n) => work(tokens[n] as string))
    },
  }))
  const rows = await measureGroups([cases], flags.rounds, Number.NaN)
  return { 'µs of CPU': rows.map(({ what, cpuUs, errors }) => ({ what, cpuUs, errors })) }
})
