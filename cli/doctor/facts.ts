import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type Config, examineConfig } from '../../config.ts'
import { createProbes, probeField } from '../../plugins/keys/probe.ts'
import { readMadeSecret, secretPath } from '../../plugins/keys/secret-file.ts'
import { createSecrets } from '../../plugins/keys/secrets.ts'
import { openTransport } from '../../plugins/mail/transports/transport.ts'
import { createGuardedFetch, type GuardedAnswer } from '../../plugins/run/guarded-fetch.ts'
import { type Endpoint, readEndpoints } from '../../plugins/webhooks/endpoints.ts'
import { hasLmdbStore, lmdbDirectory } from '../../stores/lmdb/file.ts'
import type { Server } from '../../stores/postgres/server-facts.ts'
import { type Place, readPlace } from '../places.ts'
import { NotKnown, needed } from './check.ts'
import { isUpToDate, serverOf } from './database.ts'
import { type DiskFact, diskFactOf } from './disk.ts'
import { type FileFact, factsOf, pathsOfSecrets, pathsOfStore } from './files.ts'
import { type HashFact, measureHash } from './hashing.ts'
import { type Answer, ask, bare, type Certificate, certificateOf, timeOf } from './http.ts'
import { metadataPath } from './issuer.ts'
import { type KeyRing, readKeys } from './keys.ts'
import { type MachineFacts, machineFacts } from './machine.ts'
import type { Arrival } from './proxies.ts'
import type { StageName, StoreStages } from './store.ts'
import { type Looking, startLooking } from './store-stages.ts'

/**
 * What the checks look at. A fact is found out when it is first asked for, once; one that cannot be known throws
 * `NotKnown`. Nothing is made, migrated or left behind by it.
 */
export interface Facts {
  env: NodeJS.ProcessEnv
  now(): number
  /** of this process; undefined where users have no numbers */
  uid: number | undefined
  examined: ReturnType<typeof examineConfig>
  config(): Config
  place(): Place
  /** whether there is no embedded store yet */
  isMissing(): boolean
  dataFiles: FileFact[]
  secretFiles: FileFact[]
  machine: MachineFacts
  disk(): DiskFact
  /** undefined before the first start */
  secret(): { text: string; from: 'AUTH_SECRET' | 'AUTH_SECRET_FILE' | 'made'; path?: string } | undefined
  servers(): Promise<Server[]>
  store<Name extends StageName>(stage: Name): Promise<StoreStages[Name]>
  keys(): Promise<KeyRing>
  hash(): Promise<HashFact>
  /** what AUTH_ISSUER answers when it is asked for its metadata */
  issuer(): Promise<Answer>
  jwks(): Promise<Answer>
  certificate(): Promise<Certificate>
  /** what browsers are told at the host of AUTH_ISSUER, whatever its path */
  passkeyOrigins(): Promise<Answer>
  /** @throws {ConfigError} for a file that is not as expected */
  webhooks(): Endpoint[]
  /** What an endpoint answers to HEAD, to which it does nothing. @throws {FetchFailed} */
  reach(endpoint: Endpoint): Promise<GuardedAnswer>
  /** Asks the mail server or the mailer, without a mail. @throws {MailFailed} */
  askMailer(): Promise<void>
  /** what AUTH_METRICS_PORT answers at the host of AUTH_ISSUER */
  metrics(): Promise<Answer>
  /** what HOST and PORT answer to `GET /readyz`, with nothing in between */
  direct(): Promise<Answer>
  /** @param forwardedFor a forged X-Forwarded-For @returns undefined where the service does not tell us */
  arrived(by: 'direct' | 'issuer', forwardedFor?: string): Promise<Arrival | undefined>
}

/** Longest wait for the answer of a webhook or a mail server: less than a check has. */
const reachMs = 2_500

/** Gathers facts by the settings in an environment. @returns them, and a function that ends what still hangs */
export function gatherFacts(env: NodeJS.ProcessEnv): { facts: Facts; end(): void } {
  const examined = examineConfig(env)
  const dir = examined.config?.AUTH_DATA_DIR ?? (env['AUTH_DATA_DIR'] || './data')
  let looking: Looking | undefined
  let guarded: ReturnType<typeof createGuardedFetch> | undefined

  const facts: Facts = {
    env,
    now: Date.now,
    uid: process.getuid?.(),
    examined,
    config() {
      if (examined.config) return examined.config
      throw new NotKnown('not looked at, because of settings')
    },
    place: () => readPlace(undefined, facts.config(), env),
    isMissing: () => !hasLmdbStore(dir) && facts.dataFiles.every(({ isWritable }) => isWritable),
    // Before the store is opened, which puts modes right.
    dataFiles: factsOf(pathsOfStore(dir)),
    secretFiles: factsOf(pathsOfSecrets(env)),
    machine: machineFacts(),
    disk() {
      if (facts.place().kind === 'pg') throw new NotKnown('the store is PostgreSQL')
      return diskFactOf(dir)
    },
    secret() {
      const { AUTH_SECRET: text } = facts.config()
      const { AUTH_SECRET_FILE: path } = env
      if (text !== undefined) return path ? { text, from: 'AUTH_SECRET_FILE', path } : { text, from: 'AUTH_SECRET' }
      if (facts.dataFiles.some(({ isWritable }) => !isWritable))
        throw new NotKnown('not looked at, because of files.owner')
      const made = readMadeSecret(dir)
      return made === undefined ? undefined : { text: made, from: 'made', path: secretPath(dir) }
    },
    servers: once(async () => {
      const { DATABASE_URL: url } = facts.config()
      if (!url) throw new NotKnown('the store is LMDB')
      return (await import('../../stores/postgres/server-facts.ts')).readServers(url)
    }),
    store: async (stage) => (await look()).at(stage),
    keys: once(() => readKeys(facts)),
    hash: once(() => measureHash(facts)),
    issuer: once(async () => ask(bare(facts.config().AUTH_ISSUER) + metadataPath)),
    jwks: once(async () => ask(`${bare(facts.config().AUTH_ISSUER)}/.well-known/jwks.json`)),
    certificate: once(async () => certificateOf(facts.config().AUTH_ISSUER)),
    passkeyOrigins: once(async () => ask(new URL('/.well-known/webauthn', facts.config().AUTH_ISSUER).href)),
    webhooks() {
      const { AUTH_WEBHOOKS_FILE: path, AUTH_FETCH_ALLOW: allowed } = facts.config()
      return path === undefined ? [] : readEndpoints(path, allowed)
    },
    reach: ({ url }) => guardedFetch().fetch(url, { method: 'HEAD', withinMs: reachMs }),
    async askMailer() {
      const transport = await openTransport(facts.config(), Date.now)
      await transport?.check(AbortSignal.timeout(reachMs)).finally(() => transport.close())
    },
    metrics: once(async () => {
      const { AUTH_ISSUER, AUTH_METRICS_PORT } = facts.config()
      return ask(`http://${new URL(AUTH_ISSUER).hostname}:${AUTH_METRICS_PORT}/metrics`, { withinMs: 1_000 })
    }),
    direct: once(async () => ask(`${originOf(facts.config())}/readyz`)),
    async arrived(by, forwardedFor) {
      const { config, secret } = facts
      const found = secret()
      if (!found) throw new NotKnown('there is no secret yet')
      const base = by === 'direct' ? originOf(config()) : bare(config().AUTH_ISSUER)
      const before = await needed(
        by === 'direct' ? facts.direct() : facts.issuer(),
        by === 'direct' ? 'service' : 'issuer',
      )
      // A probe is good for a minute of the clock there.
      return askHowArrived(base, found.text, timeOf(before) || Date.now(), forwardedFor)
    },
  }
  function guardedFetch() {
    guarded ??= createGuardedFetch(facts.config().AUTH_FETCH_ALLOW)
    return guarded
  }
  function webhookIds(): string[] {
    try {
      return facts.webhooks().map(({ id }) => id)
    } catch {
      // As `webhooks` reports.
      return []
    }
  }
  const look = once(async () => {
    const place = facts.place()
    if (place.kind === 'lmdb') mayBeOpened(facts, place.dir)
    // Opening a store brings its schema up to date.
    else if (!isUpToDate(await serverOf(facts))) throw new NotKnown('not looked at, because of database.schema')
    looking = startLooking({ place, webhooks: webhookIds() })
    return looking
  })
  // They are asked side by side, while checks that need nobody run.
  if (examined.config) for (const fact of [facts.servers, facts.issuer, facts.direct]) fact().catch(() => {})
  const end = () => {
    looking?.end()
    guarded?.close()
  }
  return { facts, end }
}

function once<T>(find: () => Promise<T>): () => Promise<T> {
  let found: Promise<T> | undefined
  return () => {
    found ??= find()
    return found
  }
}

/** Whether an embedded store can be opened without making anything. @throws {NotKnown} {Error} */
function mayBeOpened({ isMissing, dataFiles, config }: Facts, dir: string): void {
  if (dataFiles.some(({ isWritable }) => !isWritable)) throw new NotKnown('not looked at, because of files.owner')
  if (isMissing()) {
    if (config().AUTH_SECRET !== undefined || !existsSync(secretPath(dir)))
      throw new NotKnown('there is none yet: the first start makes it')
    throw new Error(`the store beside ${secretPath(dir)} is missing: is a volume not mounted?`)
  }
  const [data, lock] = ['data.mdb', 'lock.mdb'].map((name) => existsSync(join(lmdbDirectory(dir), name)))
  if (data && !lock) throw new NotKnown('it was put here, and not started yet')
}

/** The service itself, on this machine. */
function originOf({ HOST, PORT }: Config): string {
  const host = { '0.0.0.0': '127.0.0.1', '::': '::1' }[HOST] ?? HOST
  return `http://${host.includes(':') ? `[${host}]` : host}:${PORT}`
}

/**
 * Asks a service how a request came to it, with a probe made under AUTH_SECRET.
 *
 * @returns undefined where it does not know the secret
 */
export async function askHowArrived(
  base: string,
  secret: string,
  now: number,
  forwardedFor?: string,
): Promise<Arrival | undefined> {
  const probe = createProbes(createSecrets([secret])).make(now)
  const { json } = await ask(`${base}/livez`, {
    headers: { [probeField]: probe, ...(forwardedFor !== undefined && { 'x-forwarded-for': forwardedFor }) },
  })
  return json?.arrived
}
