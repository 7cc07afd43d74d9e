/*
 * What the parts can do by themselves, in a process of its own: a Fastify that does nothing, a hash, a durable
 * write, a signature. The service cannot be faster than any part it needs. `latchkey/verify` runs here too: it is a
 * function call, and no service.
 */
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import formbody from '@fastify/formbody'
import jwt from '@fastify/jwt'
import Fastify from 'fastify'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { open } from 'lmdb'
import pg from 'pg'
import type { SigningAlg } from '../domain/signing-key.ts'
import { argon2 } from '../plugins/login/argon2.ts'
import { splitHosts } from '../stores/postgres/hosts.ts'
import { createVerifier, type Verifier } from '../verify/index.ts'
import { password } from './load.ts'
import { type Measured, meter } from './meter.ts'
import { serveCalls } from './processes.ts'

export interface BareRoute {
  method: 'GET' | 'POST'
  path: string
  /** body of the answer, as large as that of the service; 0 for none */
  bytes: number
}

interface Span {
  seconds: number
  concurrency: number
}
type HashSpan = Span & { memoryCost: number; timeCost: number; parallelism: number }
type VerifySpan = Span & {
  tokens: string[]
  issuer: string
  audience: string
  /** has the keys */
  origin: string
  /** may follow revocations */
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

const makeHash = ({ seconds, concurrency, ...options }: HashSpan): Promise<Measured> =>
  meter({ seconds }, concurrency, () => argon2.hash(password, options))

async function verifyHash({ seconds, concurrency, ...options }: HashSpan): Promise<Measured> {
  const hash = await argon2.hash(password, options)
  return meter({ seconds }, concurrency, () => argon2.verify(hash, password))
}

/** As large as a session. */
const makeRow = () => ({
  id: randomUUID(),
  userId: randomUUID(),
  clientId: 'first-party',
  scope: [],
  generation: 0,
  counter: 0,
  createdAt: Date.now(),
  refreshedAt: Date.now(),
  address: '127.0.0.1',
  userAgent: 'latchkey-bench',
})

/** Makes something once. */
function once<Argument, Made>(make: (argument: Argument) => Made): (argument: Argument) => Made {
  const made = new Map<Argument, Made>()
  return (argument) => {
    const found = made.get(argument) ?? make(argument)
    made.set(argument, found)
    return found
  }
}

const openTable = once((path: string) =>
  open({
    path,
    overlappingSync: false,
    eventTurnBatching: false,
    encoder: { useRecords: false, mapsAsObjects: true },
  }),
)
/** A row rewritten in LMDB, synced before its next write; concurrent writes share a commit. */
function putLmdb({ seconds, concurrency, dir }: Span & { dir: string }): Promise<Measured> {
  const table = openTable(dir)
  const rows = Array.from({ length: concurrency }, makeRow)
  return meter({ seconds }, concurrency, (index) => {
    const row = rows[index % concurrency] as ReturnType<typeof makeRow>
    row.counter += 1
    return table.put(row.id, row)
  })
}

/** Connections of the service's pool. */
const poolSize = 12
const openPool = once(async (databaseUrl: string) => {
  const pool = new pg.Pool({ connectionString: splitHosts(databaseUrl)[0] as string, max: poolSize })
  pool.on('error', () => {})
  await pool.query(
    'CREATE TABLE IF NOT EXISTS bare (id uuid PRIMARY KEY, counter bigint, about text) WITH (fillfactor = 70)',
  )
  return pool
})
/** A row updated in PostgreSQL, by a prepared statement over as many connections as the service has, each a commit. */
async function updatePostgres({ seconds, concurrency, databaseUrl }: Span & { databaseUrl: string }) {
  const pool = await openPool(databaseUrl)
  const ids = Array.from({ length: concurrency }, () => randomUUID())
  await pool.query('INSERT INTO bare SELECT unnest($1::uuid[]), 0, $2', [ids, JSON.stringify(makeRow())])
  const text = 'UPDATE bare SET counter = counter + 1 WHERE id = $1'
  return meter({ seconds }, concurrency, (index) =>
    pool.query({ name: 'bare', text, values: [ids[index % concurrency]] }),
  )
}

const openSigner = once(async (alg: SigningAlg) => {
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
})
async function sign({ seconds, alg }: Span & { alg: SigningAlg }): Promise<Measured> {
  const app = await openSigner(alg)
  const iat = Math.floor(Date.now() / 1000)
  const claims = {
    ...{ iss: 'http://localhost:3000', aud: 'http://localhost:3000', sub: randomUUID(), client_id: 'first-party' },
    ...{ sid: randomUUID(), iat, exp: iat + 600, jti: `0.0.${randomUUID()}` },
  }
  return meter({ seconds }, 1, () => app.jwt.sign(claims))
}

const openKeySet = once((origin: string) => createRemoteJWKSet(new URL(`${origin}/.well-known/jwks.json`)))
function verifyJose({ seconds, concurrency, tokens, issuer, audience, origin }: VerifySpan): Promise<Measured> {
  const keys = openKeySet(origin)
  const expected = { issuer, audience, typ: 'at+jwt' }
  return meter({ seconds }, concurrency, (index) => jwtVerify(tokens[index % tokens.length] as string, keys, expected))
}

const verifiers = new Map<number, Verifier>()
async function verifyLatchkey(span: VerifySpan & { cacheSize: number }): Promise<Measured> {
  const { seconds, concurrency, tokens, origin, ...options } = span
  const verifier = verifiers.get(span.cacheSize) ?? createVerifier({ ...options, url: origin })
  verifiers.set(span.cacheSize, verifier)
  await verifier.ready()
  return meter({ seconds }, concurrency, (index) => verifier.verify(tokens[index % tokens.length] as string))
}

/** JavaScript and nothing else, on one thread: what a core does beside others. */
function compute({ seconds }: Pick<Span, 'seconds'>): Promise<Measured> {
  const sample = { sub: 'x'.repeat(36), scope: 'files:read files:write', roles: ['admin'], iat: 1, exp: 601 }
  return meter({ seconds }, 1, () => JSON.parse(JSON.stringify(sample)))
}

serveCalls({ compute, listen, verifyHash, makeHash, putLmdb, updatePostgres, sign, verifyJose, verifyLatchkey })
