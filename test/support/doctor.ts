import { type Line, NotKnown } from '../../cli/doctor/check.ts'
import type { DiskFact } from '../../cli/doctor/disk.ts'
import type { Facts } from '../../cli/doctor/facts.ts'
import type { Answer, NoAnswer } from '../../cli/doctor/http.ts'
import type { Remote } from '../../cli/doctor/remote.ts'
import type { StageName, StoreStages } from '../../cli/doctor/store.ts'
import { readPlace } from '../../cli/places.ts'
import { examineConfig } from '../../config.ts'
import { type SigningAlg, signingAlgs } from '../../domain/signing-key.ts'
import type { SigningKey } from '../../plugins/keys/key-ring.ts'
import type { Endpoint } from '../../plugins/webhooks/endpoints.ts'
import { migrations } from '../../stores/postgres/migrations.ts'
import type { ServerFacts } from '../../stores/postgres/server-facts.ts'

/* Facts of set-ups in which nothing is wrong, for tests to break one thing of. */

export const now = Date.UTC(2026, 10, 25)
const day = 86_400_000

export const secret = 'vX3mQ8rT1kZ6yB0nW5sD9fH2jL7pC4gA'

/** On PostgreSQL, behind a proxy. */
export const settings = {
  HOST: '0.0.0.0',
  AUTH_ISSUER: 'https://auth.example.com',
  AUTH_TRUSTED_PROXIES: '10.0.0.2',
  AUTH_SECRET: secret,
  DATABASE_URL: 'postgres://latchkey:letmein@db.example.com/latchkey',
  AUTH_HASH_CONCURRENCY: '2',
}

export const server: ServerFacts = {
  version: 'PostgreSQL 18.4 on x86_64-pc-linux-gnu',
  number: 180004,
  aheadMs: 20,
  settings: {
    fsync: 'on',
    synchronous_commit: 'on',
    full_page_writes: 'on',
    default_transaction_read_only: 'off',
    max_connections: '100',
    superuser_reserved_connections: '3',
    synchronous_standby_names: '',
    server_encoding: 'UTF8',
  },
  isStandby: false,
  connections: 12,
  isEncrypted: true,
  isVerified: true,
  isLocal: false,
  pooling: 'none',
  standbys: [],
  steps: migrations.map(({ version }) => version),
  mayCreate: true,
}

export const disk: DiskFact = { type: 0xef53, freeBytes: 50 * 2 ** 30, freeInodes: 1e6, storeBytes: 1e6 }
export const machine = {
  version: '24.11.1',
  cores: 2,
  quota: undefined,
  memoryBytes: 4 * 2 ** 30,
  mostFiles: 65_536,
  mostFileBytes: undefined,
}

export const key = (of: Partial<SigningKey> = {}) =>
  ({ kid: 'one', alg: 'ES256', sealedBy: 'current', createdAt: now - day, signsFrom: now - day, ...of }) as SigningKey

export const ring = (...keys: SigningKey[]) => ({
  algs: signingAlgs,
  known: () => keys,
  signingAnywhere: (wanted?: SigningAlg) =>
    keys.find(({ alg, signsFrom }) => alg === (wanted ?? alg) && signsFrom <= now),
})

export function answer(
  json: unknown,
  { status = 200, headers = {} }: { status?: number; headers?: object } = {},
): Answer {
  const fields = { date: new Date(now).toUTCString(), 'x-request-id': '1', 'x-content-type-options': 'nosniff' }
  return {
    status,
    headers: new Headers({ ...fields, ...headers }),
    text: typeof json === 'string' ? json : JSON.stringify(json),
    json: typeof json === 'string' ? undefined : json,
    ms: 5,
    atMs: now + 500,
  }
}

export const rejecting = (error: Error | NoAnswer) => async () => {
  throw error
}

/** No client of which there is anything to say. */
export const noClients = { deadEnds: [], inBrowser: [], withoutGrant: [], logoutUris: [] }

const goodStages: Record<StageName, unknown> = {
  ...{ opened: true, signingKeys: [], webhooks: {}, readMs: 1, writeMs: 5 },
  administrators: { found: 1, lacking: [], isAll: true },
  appClients: noClients,
}

/** A store. @param changed what is slow, or fails */
export const stages =
  (changed: Partial<Record<StageName, object | number | Error>> = {}): Facts['store'] =>
  async (name) => {
    const found = { ...goodStages, ...changed }[name]
    if (found instanceof Error) throw found
    return found as StoreStages[typeof name]
  }

export const webhook = { id: 'one', url: new URL('https://hooks.example.com/') } as Endpoint

/** @param facts in the place of the good ones */
export function goodFacts(env: Record<string, string>, facts: Partial<Facts> = {}): Facts {
  const examined = examineConfig(env)
  const good: Facts = {
    env,
    now: () => now,
    uid: 1000,
    examined,
    config() {
      if (examined.config) return examined.config
      throw new NotKnown('not looked at, because of settings')
    },
    place: () => readPlace(undefined, good.config(), env),
    isMissing: () => false,
    dataFiles: [],
    secretFiles: [],
    machine,
    disk() {
      if (good.config().DATABASE_URL) throw new NotKnown('the store is PostgreSQL')
      return disk
    },
    secret: () => ({ text: good.config().AUTH_SECRET ?? secret, from: 'AUTH_SECRET' }),
    async servers() {
      if (!good.config().DATABASE_URL) throw new NotKnown('the store is LMDB')
      return [{ host: 'db.example.com:5432', facts: server }]
    },
    store: stages(),
    keys: async () => ring(key()),
    hash: async () => ({ ms: 20, build: 'compiled' }),
    issuer: async () => answer({ issuer: good.config().AUTH_ISSUER }),
    jwks: async () => answer({ keys: [{ kid: 'one' }] }),
    certificate: async () => ({ validToMs: now + 60 * day, issuer: "Let's Encrypt" }),
    passkeyOrigins: async () => answer({ origins: good.config().AUTH_WEBAUTHN_ORIGINS }),
    webhooks: () => [webhook],
    reach: async () => ({ status: 404, headers: {}, body: Buffer.alloc(0), isWhole: true }),
    askMailer: async () => {},
    metrics: async () => answer('', { status: 404 }),
    direct: async () => answer({ status: 'ok' }),
    arrived: async (by, forwardedFor) =>
      by === 'direct'
        ? { peer: '127.0.0.1', forwarded_for: forwardedFor ?? '', address: '127.0.0.1' }
        : {
            peer: '10.0.0.2',
            forwarded_for: [forwardedFor, '198.51.100.9'].filter(Boolean).join(', '),
            address: '198.51.100.9',
          },
    ...facts,
  }
  return good
}

const jwk = { kid: 'one', alg: 'ES256', use: 'sig', kty: 'EC', crv: 'P-256', x: 'x', y: 'y' }
export const publicKey = jwk

/** A service at a URL. @param answers in the place of the good ones, by path */
export function goodRemote(
  answers: Record<string, Answer | Error> = {},
  { env = {}, ...of }: Partial<Remote> & { env?: Record<string, string> } = {},
): Remote {
  const url = 'https://auth.example.com'
  const noStore = { 'cache-control': 'no-store', pragma: 'no-cache' }
  const good: Record<string, Answer | Error> = {
    '/.well-known/openid-configuration': answer(
      { issuer: url, jwks_uri: `${url}/.well-known/jwks.json` },
      { headers: { 'strict-transport-security': 'max-age=31536000' } },
    ),
    '/.well-known/jwks.json': answer({ keys: [jwk] }, { headers: { 'cache-control': 'public, max-age=300' } }),
    '/livez': answer({ status: 'ok' }),
    '/readyz': answer({ status: 'ok' }),
    '/token': answer({ error: 'invalid_request' }, { status: 400, headers: noStore }),
    '/admin/users': answer({}, { status: 401 }),
    '/metrics': answer({}, { status: 404 }),
    'http://auth.example.com/livez': answer('', {
      status: 308,
      headers: { location: 'https://auth.example.com/livez' },
    }),
    ...answers,
  }
  const find = async (path: string) => {
    const found = good[path] ?? new Error(`nothing at ${path}`)
    if (found instanceof Error) throw found
    return found
  }
  return {
    url,
    env,
    now: () => now,
    metadata: () => find('/.well-known/openid-configuration'),
    jwks: () => find('/.well-known/jwks.json'),
    certificate: async () => ({ validToMs: now + 60 * day, issuer: "Let's Encrypt" }),
    ask: find,
    ...of,
  }
}

/** What is to be changed: verdict, id and setting. */
export const complaints = (lines: Line[]): string[] =>
  lines
    .filter(({ verdict }) => verdict === 'failed' || verdict === 'warning')
    .map(({ verdict, id, setting }) => `${verdict} ${id}: ${setting}`)
