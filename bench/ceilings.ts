/*
 * What the parts can do by themselves, in a process of its own: a Fastify that does nothing, a hash, a durable write, a signature.
 * The service cannot be faster than any part it needs. Beside them runs what is a function call and no service: `latchkey/verify`.
 */
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import formbody from '@fastify/formbody'
import jwt from '@fastify/jwt'
import Fastify, { type FastifyInstance } from 'fastify'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { open } from 'lmdb'
import pg from 'pg'
import type { SigningAlg } from '../plugins/keys/signing-keys.ts'
import { argon2 } from '../plugins/login/argon2.ts'
import { splitHosts } from '../stores/postgres/hosts.ts'
import { createVerifier, type Verifier } from '../verify/index.ts'
import { password } from './client.ts'
import { type Measured, meter } from './meter.ts'
import { serveCalls } from './remote.ts'

export interface BareRoute {
  method: 'GET' | 'POST'
  path: string
  /** of the answer, as large as that of the service; 0 for one without a body */
  bytes: number
}

interface Span {
  seconds: number
  /** calls under way at once */
  atOnce: number
}

export interface HashSpan extends Span {
  memoryCost: number
  timeCost: number
  parallelism: number
}

export interface StoreSpan extends Span {
  dir?: string
  databaseUrl?: string
}

export interface VerifySpan extends Span {
  tokens: string[]
  issuer: string
  audience: string
  /** where the keys are */
  origin: string
  /** of a client that may follow revocations */
  clientId?: string
  clientSecret?: string
}

async function listen(routes: BareRoute[]): Promise<string> {
  const app = Fastify()
  await app.register(formbody)
  app.addContentTypeParser('application/json', { parseAs: 'string' }, app.getDefaultJsonParser('error', 'error'))
  for (const { method, path, bytes } of routes) {
    const message = 'x'.repeat(Math.max(0, bytes - '{"message":""}'.length))
    if (bytes === 0) app.route({ method, url: path, handler: async (_request, reply) => reply.code(204).send(null) })
    else app.route({ method, url: path, handler: async () => ({ message }) })
  }
  return app.listen({ host: '127.0.0.1', port: 0 })
}

async function verifyHash({ seconds, atOnce, ...options }: HashSpan): Promise<Measured> {
  const hash = await argon2.hash(password, { type: argon2.argon2id, ...options })
  return meter(seconds, atOnce, () => argon2.verify(hash, password))
}

function makeHash({ seconds, atOnce, ...options }: HashSpan): Promise<Measured> {
  return meter(seconds, atOnce, () => argon2.hash(password, { type: argon2.argon2id, ...options }))
}

/** As large as a session is. */
const row = () => ({
  ...{ id: randomUUID(), userId: randomUUID(), clientId: 'first-party', scope: [], generation: 0, counter: 0 },
  ...{ createdAt: Date.now(), refreshedAt: Date.now(), address: '127.0.0.1', userAgent: 'latchkey-bench' },
})

let lmdb: { put: (key: string, value: object) => Promise<boolean> } | undefined
/** A row rewritten in LMDB, synced before the next one on it; those that come together share a commit. */
async function putLmdb({ seconds, atOnce, dir }: StoreSpan): Promise<Measured> {
  lmdb ??= open({
    path: dir as string,
    overlappingSync: false,
    eventTurnBatching: false,
    encoder: { useRecords: false, mapsAsObjects: true },
  })
  const table = lmdb
  const rows = Array.from({ length: atOnce }, row)
  let next = 0
  return meter(seconds, atOnce, () => {
    const session = rows[next++ % atOnce] as ReturnType<typeof row>
    session.counter += 1
    return table.put(session.id, session)
  })
}

/** Connections of the service's pool. */
const poolSize = 12
let pool: pg.Pool | undefined
/** A row updated in PostgreSQL, by a prepared statement over as many connections as the service has, each a commit. */
async function updatePostgres({ seconds, atOnce, databaseUrl }: StoreSpan): Promise<Measured> {
  if (!pool) {
    pool = new pg.Pool({ connectionString: splitHosts(databaseUrl as string)[0] as string, max: poolSize })
    pool.on('error', () => {})
    await pool.query(
      'CREATE TABLE IF NOT EXISTS bare (id uuid PRIMARY KEY, counter bigint NOT NULL, about text) WITH (fillfactor = 70)',
    )
  }
  const connections = pool
  const ids = Array.from({ length: atOnce }, () => randomUUID())
  await connections.query('INSERT INTO bare SELECT unnest($1::uuid[]), 0, $2', [ids, JSON.stringify(row())])
  let next = 0
  return meter(seconds, atOnce, () =>
    connections.query({
      name: 'bare',
      text: 'UPDATE bare SET counter = counter + 1 WHERE id = $1',
      values: [ids[next++ % atOnce]],
    }),
  )
}

const signers = new Map<SigningAlg, Promise<FastifyInstance>>()
async function makeSigner(alg: SigningAlg): Promise<FastifyInstance> {
  const { publicKey, privateKey } = {
    ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
    EdDSA: () => generateKeyPairSync('ed25519'),
  }[alg]()
  const app = Fastify()
  await app.register(jwt, {
    secret: {
      public: publicKey.export({ format: 'pem', type: 'spki' }) as string,
      private: privateKey.export({ format: 'pem', type: 'pkcs8' }) as string,
    },
    sign: { algorithm: alg, kid: 'bench', header: { alg, typ: 'at+jwt' } },
  })
  await app.ready()
  return app
}
async function sign({ seconds, alg }: Span & { alg: SigningAlg }): Promise<Measured> {
  const signer = signers.get(alg) ?? makeSigner(alg)
  signers.set(alg, signer)
  const app = await signer
  const iat = Math.floor(Date.now() / 1000)
  const [sub, sid] = [randomUUID(), randomUUID()]
  const issuer = 'http://localhost:3000'
  const claims = {
    iss: issuer,
    aud: issuer,
    sub,
    client_id: 'first-party',
    sid,
    iat,
    exp: iat + 600,
    jti: `0.0.${randomUUID()}`,
  }
  return meter(seconds, 1, () => app.jwt.sign(claims))
}

/** Each token in its turn. */
function inTurn(tokens: string[]): () => string {
  let next = 0
  return () => tokens[next++ % tokens.length] as string
}

let keySet: ReturnType<typeof createRemoteJWKSet> | undefined
async function verifyJose({ seconds, atOnce, tokens, issuer, audience, origin }: VerifySpan): Promise<Measured> {
  keySet ??= createRemoteJWKSet(new URL(`${origin}/.well-known/jwks.json`))
  const [keys, token] = [keySet, inTurn(tokens)]
  return meter(seconds, atOnce, () => jwtVerify(token(), keys, { issuer, audience, typ: 'at+jwt' }))
}

const verifiers = new Map<number, Verifier>()
async function verifyLatchkey({
  seconds,
  atOnce,
  tokens,
  origin,
  remembers,
  ...options
}: VerifySpan & { remembers: number }): Promise<Measured> {
  const verifier = verifiers.get(remembers) ?? createVerifier({ ...options, url: origin, cacheSize: remembers })
  verifiers.set(remembers, verifier)
  await verifier.ready()
  const token = inTurn(tokens)
  return meter(seconds, atOnce, () => verifier.verify(token()))
}

serveCalls({ listen, verifyHash, makeHash, putLmdb, updatePostgres, sign, verifyJose, verifyLatchkey })
