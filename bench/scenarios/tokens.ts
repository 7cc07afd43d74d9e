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
import { median, meter, round } from '../meter.ts'
import { makeDir, onEnd } from '../processes.ts'
import { print, progressOf, readFlags, runScenario } from './scenario.ts'

const { flags } = readFlags({ tokens: 3_000, rounds: 7, json: false })

await runScenario(async () => {
  const config = readConfig({ AUTH_DATA_DIR: makeDir(), AUTH_ISSUER: 'http://localhost:3000', LOG_LEVEL: 'silent' })
  const app = await buildApp(config)
  onEnd(() => app.close())
  const subject = { sub: randomUUID(), client_id: 'first-party', sid: randomUUID(), aud: config.AUTH_AUDIENCE }
  const issue = () => app.accessTokens.issue({ ...subject, generations: { user: 0, client: 0 } })
  const [jwk] = app.signingKeys.publicJwks()
  const key = createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' }).export({
    format: 'pem',
    type: 'spki',
  }) as string

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
  await app.inject({ url: '/protected', headers: { authorization: `Bearer ${await issue()}` } })

  const again = await issue()
  const ways: Record<string, (token: string) => unknown> = {
    'check: a token not seen before': (token) => verify(request as FastifyRequest, token),
    'check: the same token again': () => verify(request as FastifyRequest, again),
    'check: app.jwt.verify with the key given': (token) => app.jwt.verify(token, { key }),
    'sign: node:crypto, the key kept': issue,
    'sign: app.jwt.sign, the key fixed': () =>
      signing.jwt.sign({ ...subject, iss: config.AUTH_ISSUER, jti: randomUUID() }),
  }
  const measured = Object.keys(ways).map((way) => ({ way, us: [] as number[] }))
  const progress = progressOf(flags.rounds)
  // The first round warms up.
  for (let number = 0; number <= flags.rounds; number++) {
    const tokens = await Promise.all(Array.from({ length: flags.tokens }, issue))
    for (const { way, us } of measured) {
      if (number > 0) progress(way, number)
      const work = ways[way] as (token: string) => unknown
      const { cpuUs = Number.NaN, wrong } = await meter({ calls: flags.tokens }, 1, async (n) =>
        work(tokens[n] as string),
      )
      if (wrong !== undefined) throw new Error(`${way}: ${wrong}`)
      if (number > 0) us.push(cpuUs)
    }
  }
  print(flags.json, { 'µs of CPU': measured.map(({ way, us }) => ({ way, us: round(median(us)) })) })
})
