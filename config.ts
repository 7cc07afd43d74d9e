import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { availableParallelism } from 'node:os'
import { type StaticDecode, type TSchema, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { distance } from 'fastest-levenshtein'
import { whatIsWrongWithOrigin } from './origins.ts'

/** A setting that is wrong or unsafe; the process ends with exit code 78 (EX_CONFIG of sysexits.h). */
export class ConfigError extends Error {}

const secondsPerUnit: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 }

/** Seconds, written `90`, `90s`, `10m`, `12h` or `30d`. */
const DurationSeconds = (options: { default?: string; description: string; least?: number }) =>
  Type.Transform(
    Type.String({
      pattern: '^[1-9][0-9]{0,8}[smhd]?$',
      expected: 'a duration such as 90, 90s, 10m, 12h or 30d',
      ...options,
    }),
  )
    .Decode((text) => Number.parseInt(text, 10) * (secondsPerUnit[text.at(-1) as string] ?? 1))
    .Encode(String)

const WholeNumber = (least: number, most: number, options: { default?: string; description: string }) =>
  Type.Transform(Type.String({ pattern: '^[0-9]{1,9}$', expected: `a whole number from ${least} to ${most}`, least, most, ...options }))
    .Decode(Number)
    .Encode(String)

/** A number of processes; `auto` is one for each core. */
const Workers = (most: number, options: { default: string; description: string }) =>
  Type.Transform(
    Type.String({ pattern: '^(auto|[0-9]{1,9})$', expected: `a whole number from 1 to ${most}, or auto`, least: 1, most, ...options }),
  )
    .Decode((text) => (text === 'auto' ? Math.min(availableParallelism(), most) : Number(text)))
    .Encode(String)

const OneOf = <const T extends string[]>(values: [...T], options: { default?: T[number]; description: string }) =>
  Type.Unsafe<T[number]>(
    Type.Union(
      values.map((value) => Type.Literal(value)),
      { expected: values.map((value) => `"${value}"`).join(' or '), ...options },
    ),
  )

/** Comma-separated text to a list; empty members are refused by the pattern of a member. */
const ListOf = (member: string, options: { expected: string; description: string }) =>
  Type.Transform(Type.String({ pattern: `^${member}( *, *${member})*$`, ...options }))
    .Decode((text) => text.split(',').map((part) => part.trim()))
    .Encode((list) => list.join(','))

/**
 * Every setting: its type, default, check and description. `.env.example` is written from it, and
 * a test holds the two together.
 */
export const Settings = Type.Object({
  HOST: Type.String({ default: '127.0.0.1', description: 'Address to listen on' }),
  PORT: WholeNumber(0, 65_535, { default: '3000', description: 'Port to listen on; 0 picks a free one and prints it' }),
  LOG_LEVEL: OneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    default: 'info',
    description: 'Least severity that is logged; debug adds a line for each request',
  }),
  AUTH_WORKERS: Workers(64, { default: '1', description: 'Processes that share the port and the store; auto is one for each core' }),
  DATABASE_URL: Type.Optional(
    Type.String({
      pattern: '^postgres(ql)?://.',
      secret: true,
      expected: 'a URL such as postgres://user:password@host:5432/database',
      description: 'PostgreSQL instead of the embedded store; several hosts are tried in turn: host1:5432,host2:5432',
    }),
  ),
  DATABASE_URL_FILE: Type.Optional(Type.String({ description: 'A file that holds DATABASE_URL' })),
  AUTH_DATA_DIR: Type.String({ default: './data', minLength: 1, description: 'Where the embedded store and the generated secret live' }),
  AUTH_SECRET: Type.Optional(
    Type.String({
      minLength: 32,
      secret: true,
      expected: 'at least 32 characters, for example from "openssl rand -base64 48"',
      description: 'Seals what is secret at rest and keys the refresh tokens; made in AUTH_DATA_DIR when not set',
    }),
  ),
  AUTH_SECRET_FILE: Type.Optional(Type.String({ description: 'A file that holds AUTH_SECRET' })),
  AUTH_SECRET_PREVIOUS: Type.Optional(
    Type.String({
      minLength: 32,
      secret: true,
      expected: 'the AUTH_SECRET that was in use before, at least 32 characters',
      description: 'The secret before this one; what it sealed and signed stays good',
    }),
  ),
  AUTH_ISSUER: Type.Optional(
    Type.String({
      pattern: '^https?://[^?#\\s]+$',
      expected: 'an http(s) URL without query or fragment',
      description: 'The iss of every token; http://localhost:PORT when not set',
    }),
  ),
  AUTH_AUDIENCE: Type.Optional(Type.String({ minLength: 1, description: 'The aud of every token; the issuer when not set' })),
  AUTH_SIGNING_ALG: OneOf(['ES256', 'RS256', 'EdDSA'], { default: 'ES256', description: 'Algorithm that access tokens are signed with' }),
  AUTH_SIGNING_KEY_FILE: Type.Optional(
    Type.String({ description: 'A private key (PEM or JWK) of your own; generated and kept sealed in the store when not set' }),
  ),
  AUTH_KEY_ROTATION: DurationSeconds({ default: '90d', least: 3600, description: 'Age at which a generated signing key is replaced' }),
  AUTH_ACCESS_TTL: DurationSeconds({ default: '10m', description: 'Life of an access token' }),
  AUTH_REFRESH_IDLE_TTL: DurationSeconds({ default: '30d', description: 'A session not refreshed for so long ends' }),
  AUTH_REFRESH_MAX_TTL: DurationSeconds({ default: '90d', description: 'A session ends at this age, however much it is used' }),
  AUTH_REFRESH_GRACE: DurationSeconds({ default: '30s', description: 'For so long the token before the last may be presented again' }),
  AUTH_SIGNUP: OneOf(['open', 'closed'], { default: 'open', description: 'Whether strangers may make an account' }),
  AUTH_PASSWORD_GRANT: OneOf(['on', 'off'], { default: 'on', description: 'Whether POST /token takes a username and password' }),
  AUTH_PASSWORD_MIN: WholeNumber(8, 128, { default: '15', description: 'Least number of characters in a new password' }),
  AUTH_ARGON2_MEMORY: WholeNumber(8, 4_194_304, { default: '19456', description: 'argon2id memory, KiB' }),
  AUTH_ARGON2_TIME: WholeNumber(1, 1000, { default: '2', description: 'argon2id passes' }),
  AUTH_ARGON2_PARALLELISM: WholeNumber(1, 255, { default: '1', description: 'argon2id lanes' }),
  AUTH_HASH_CONCURRENCY: WholeNumber(1, 1024, {
    default: String(availableParallelism()),
    description: 'Password hashes computed at once, by all workers together; the number of cores when not set',
  }),
  AUTH_HASH_MAX_WAIT: DurationSeconds({ default: '2s', description: 'Longest wait for a hash before the answer is 503' }),
  AUTH_THROTTLE: OneOf(['on', 'off'], { default: 'on', description: 'Waits after failed logins; off for a load test' }),
  AUTH_TRUSTED_PROXIES: Type.Optional(
    ListOf('[0-9a-fA-F.:]+(?:/[0-9]{1,3})?', {
      expected: 'a comma-separated list of addresses and CIDR ranges, such as 10.0.0.0/8, ::1',
      description: 'Peers whose X-Forwarded-For is believed',
    }),
  ),
  AUTH_CORS_ORIGINS: Type.Optional(
    ListOf('[^,\\s]+', {
      expected: 'a comma-separated list of origins, such as https://app.example.com, http://localhost:5173',
      description: 'Origins that browsers may call from; also https://*.example.com, and of apps, such as capacitor://localhost',
    }),
  ),
  AUTH_CLIENTS_FILE: Type.Optional(Type.String({ description: 'Clients declared in JSON, applied at each start: see docs/clients.md' })),
  AUTH_METRICS_PORT: Type.Optional(WholeNumber(0, 65_535, { description: 'Port of GET /metrics for Prometheus; off when not set' })),
  AUTH_SHUTDOWN_GRACE: DurationSeconds({ default: '10s', description: 'Longest time that requests in flight may take after SIGTERM' }),
  AUTH_INSECURE: Type.Optional(OneOf(['1'], { description: 'Allows argon2 below the OWASP minimum; for tests' })),
})

/** The settings after their check: durations in seconds, numbers as numbers. */
export type Settings = StaticDecode<typeof Settings>

/** What the service is built from. The secret comes separately, because it may have to be made. */
export interface Config extends Settings {
  AUTH_ISSUER: string
  AUTH_AUDIENCE: string
  /** Things to tell the operator at start that are no reason not to. */
  warnings: string[]
}

/**
 * Reads the settings from an environment and checks them all.
 *
 * @param env names and texts, such as `process.env`; an empty text counts as not set
 * @returns the configuration, frozen
 * @throws {ConfigError} for the first setting that is wrong or unsafe; the message is one line that names it
 */
export function readConfig(env: Record<string, string | undefined>): Config {
  const given: Record<string, string> = {}
  for (const name of Object.keys(Settings.properties)) if (env[name]) given[name] = env[name]
  const fromFile = (['AUTH_SECRET', 'DATABASE_URL'] as const).filter((name) => takeFromFile(given, name))
  const raw = Value.Default(Settings, given) as Record<string, string>

  for (const [name, schema] of Object.entries<TSchema>(Settings.properties)) {
    const text = raw[name]
    if (text !== undefined && !isAcceptable(schema, text)) {
      const got = schema['secret'] ? '' : `, got ${JSON.stringify(text)}`
      const setting = fromFile.some((taken) => taken === name) ? `${name}_FILE` : name
      throw new ConfigError(`${setting}: expected ${schema['expected'] ?? 'a text'}${got}`)
    }
  }
  const settings = Value.Decode(Settings, raw)
  refuseUnsafe(settings)

  const issuer = settings.AUTH_ISSUER ?? `http://localhost:${settings.PORT}`
  return Object.freeze({
    ...settings,
    AUTH_ISSUER: issuer,
    AUTH_AUDIENCE: settings.AUTH_AUDIENCE ?? issuer,
    warnings: unknownNames(env),
  })
}

/** Secrets may come by file, which no process list and no `docker inspect` shows. */
function takeFromFile(given: Record<string, string>, name: 'AUTH_SECRET' | 'DATABASE_URL'): boolean {
  const path = given[`${name}_FILE`]
  if (path === undefined) return false
  if (given[name] !== undefined) throw new ConfigError(`${name}_FILE: expected only one of ${name} and ${name}_FILE`)
  try {
    given[name] = readFileSync(path, 'utf8').trim()
    return true
  } catch (error) {
    throw new ConfigError(`${name}_FILE: expected a file that can be read, got ${(error as NodeJS.ErrnoException).code} for ${path}`)
  }
}

function isAcceptable(schema: TSchema, text: string): boolean {
  if (!Value.Check(schema, text)) return false
  if (schema['least'] === undefined && schema['most'] === undefined) return true
  const number = Value.Decode(schema, text) as number
  return number >= (schema['least'] ?? 0) && number <= (schema['most'] ?? Number.POSITIVE_INFINITY)
}

/** Memory (KiB) and passes that OWASP's password storage cheat sheet gives as the least for argon2id, any one of them. */
const owaspArgon2: [memoryKiB: number, passes: number][] = [
  [47_104, 1],
  [19_456, 2],
  [12_288, 3],
  [9_216, 4],
  [7_168, 5],
]

function refuseUnsafe(settings: Settings): void {
  const { AUTH_ARGON2_MEMORY: memory, AUTH_ARGON2_TIME: passes } = settings
  if (!settings.AUTH_INSECURE && !owaspArgon2.some(([m, t]) => memory >= m && passes >= t)) {
    throw new ConfigError(
      `AUTH_ARGON2_MEMORY: expected the OWASP minimum, m=19456 KiB with AUTH_ARGON2_TIME=2 or an equal of it, got m=${memory}, t=${passes}; AUTH_INSECURE=1 allows it for tests`,
    )
  }
  if (memory < 8 * settings.AUTH_ARGON2_PARALLELISM) {
    throw new ConfigError(
      `AUTH_ARGON2_MEMORY: expected at least 8 KiB for each of ${settings.AUTH_ARGON2_PARALLELISM} lanes, got ${memory}`,
    )
  }
  if (settings.AUTH_REFRESH_GRACE >= settings.AUTH_REFRESH_IDLE_TTL) {
    throw new ConfigError('AUTH_REFRESH_GRACE: expected less than AUTH_REFRESH_IDLE_TTL')
  }
  const badRange = settings.AUTH_TRUSTED_PROXIES?.find((range) => !isAddressRange(range))
  if (badRange !== undefined) {
    throw new ConfigError(
      `AUTH_TRUSTED_PROXIES: expected addresses and CIDR ranges, such as 10.0.0.0/8, ::1, got ${JSON.stringify(badRange)}`,
    )
  }
  for (const origin of settings.AUTH_CORS_ORIGINS ?? []) {
    const wrong = whatIsWrongWithOrigin(origin)
    if (wrong) throw new ConfigError(`AUTH_CORS_ORIGINS: expected origins as browsers send them, got ${JSON.stringify(origin)}: ${wrong}`)
  }
  if (settings.DATABASE_URL && !settings.AUTH_SECRET) {
    throw new ConfigError('AUTH_SECRET: expected with DATABASE_URL, the same for every replica, for example from "openssl rand -base64 48"')
  }
}

/** An address, or a CIDR range with as many bits as its kind has. */
function isAddressRange(range: string): boolean {
  const [address = '', bits] = range.split('/')
  const kind = isIP(address)
  return kind !== 0 && (bits === undefined || Number(bits) <= (kind === 4 ? 32 : 128))
}

/** Kubernetes sets these for a Service that is named "auth". */
const fromKubernetes = /^AUTH_(SERVICE_|PORT(_|$))/

function unknownNames(env: Record<string, string | undefined>): string[] {
  const known = Object.keys(Settings.properties)
  return Object.keys(env)
    .filter((name) => name.startsWith('AUTH_') && !known.includes(name) && !fromKubernetes.test(name))
    .map((name) => {
      const nearest = known.reduce((best, candidate) => (distance(name, candidate) < distance(name, best) ? candidate : best))
      return `${name} is no setting of Latchkey and is ignored; did you mean ${nearest}?`
    })
}
