import type { TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { ConfigError } from './config/error.ts'
import { byFile, refuseUnreadable, takeFromFile, trimSecrets } from './config/files.ts'
import { mailAdvice, whatMailLacks } from './config/mail.ts'
import { isFromKubernetes, unknownNames } from './config/names.ts'
import { rpIdOf } from './config/passkeys.ts'
import { Settings } from './config/settings.ts'
import { type Check, membersOf } from './config/types.ts'
import { isLoopbackHost } from './domain/network.ts'

export { ConfigError, Settings }

/** What the service is built from. The secret is read separately, because it may have to be made. */
export interface Config extends Settings {
  AUTH_ISSUER: string
  AUTH_AUDIENCE: string
  AUTH_PAGES_URL: string
  AUTH_WEBAUTHN_ORIGINS: string[]
  /** for the operator at start; none of them stops it */
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
  const { config, problems } = examineConfig(env)
  if (config) return config
  throw new ConfigError(problems[0])
}

/**
 * Reads the settings as `readConfig` does.
 *
 * @returns the configuration; or else everything that is wrong, a line each, in the order in which a start finds it
 */
export function examineConfig(env: Record<string, string | undefined>): { config?: Config; problems: string[] } {
  const problems: string[] = []
  /** Goes on behind what is wrong. */
  function attempt<T>(work: () => T): T | undefined {
    try {
      return work()
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      problems.push(error.message)
      return undefined
    }
  }
  const given: Record<string, string> = {}
  const names = Object.keys(Settings.properties)
  for (const name of names) {
    const text = env[name]
    if (text && !isFromKubernetes(name, text)) given[name] = text
  }
  for (const name of ['AUTH_SIGNING_KEY_FILE', 'AUTH_CLIENTS_FILE', 'AUTH_WEBHOOKS_FILE'] as const)
    attempt(() => refuseUnreadable(given, name))
  const nameOf = Object.fromEntries(byFile.map((name) => [name, attempt(() => takeFromFile(given, name)) ?? name]))
  const warnings = [...unknownNames(env, names), ...trimSecrets(given)]
  const raw = Value.Default(Settings, given) as Record<string, string>

  for (const [name, text] of Object.entries(raw)) {
    const problem = problemWith(name as keyof Settings, text)
    if (problem) problems.push(`${nameOf[name] ?? name}: ${problem}`)
  }
  if (problems.length > 0) return { problems }
  const settings = Value.Decode(Settings, raw)
  const unsafe = [...whatIsUnsafe(settings), ...whatMailLacks(settings)]
  if (unsafe.length > 0) return { problems: unsafe }

  const issuer = settings.AUTH_ISSUER ?? `http://localhost:${settings.PORT}`
  const { AUTH_AUDIENCE = issuer, AUTH_PAGES_URL = issuer } = settings
  const { AUTH_WEBAUTHN_ORIGINS = [new URL(issuer).origin] } = settings
  warnings.push(...mailAdvice(settings))
  const { protocol, hostname } = new URL(issuer)
  if (settings.AUTH_PAGES === 'on' && protocol === 'http:' && !isLoopbackHost(hostname))
    warnings.push('AUTH_ISSUER is http: and not on this machine, so browsers keep no cookie of a sign-in on its pages')
  if (settings.AUTH_WEBAUTHN_ORIGINS && rpIdOf(issuer) === undefined)
    warnings.push('AUTH_WEBAUTHN_ORIGINS has no use: the host of AUTH_ISSUER is an address, and passkeys are of a name')
  const config = { ...settings, AUTH_ISSUER: issuer, AUTH_AUDIENCE, AUTH_PAGES_URL, AUTH_WEBAUTHN_ORIGINS, warnings }
  return { config: Object.freeze(config), problems }
}

/** @returns what is expected of a setting, and why this is not it; undefined when it is */
export function problemWith(name: keyof Settings, text: string): string | undefined {
  const schema: TSchema = Settings.properties[name]
  const say = (got: string) =>
    `expected ${schema['expected'] ?? 'a text'}${schema['secret'] ? '' : `, got ${JSON.stringify(got)}`}`
  const isInRange = schema['isInRange'] as ((text: string) => boolean) | undefined
  if (!Value.Check(schema, text) || isInRange?.(text) === false) return say(text)
  for (const part of schema['isList'] ? membersOf(text) : [text]) {
    const reason = (schema['check'] as Check | undefined)?.(part)
    if (reason) return `${say(part)}: ${reason}`
  }
  return undefined
}

/** Minimum memory (KiB) and passes for argon2id by OWASP's password storage cheat sheet; any one of them. */
const owaspArgon2: [memoryKiB: number, passes: number][] = [
  [47_104, 1],
  [19_456, 2],
  [12_288, 3],
  [9_216, 4],
  [7_168, 5],
]

function* whatIsUnsafe(settings: Settings): Generator<string> {
  const { AUTH_ARGON2_MEMORY: memory, AUTH_ARGON2_TIME: passes, AUTH_ARGON2_PARALLELISM: lanes } = settings
  if (!settings.AUTH_INSECURE && !owaspArgon2.some(([m, t]) => memory >= m && passes >= t)) {
    yield 'AUTH_ARGON2_MEMORY: expected the OWASP minimum, m=19456 KiB with AUTH_ARGON2_TIME=2 or an equal of it, ' +
      `got m=${memory}, t=${passes}; AUTH_INSECURE=1 allows it for tests`
  }
  if (memory < 8 * lanes) yield `AUTH_ARGON2_MEMORY: expected at least 8 KiB for each of ${lanes} lanes, got ${memory}`
  if (settings.AUTH_REFRESH_GRACE.ms >= settings.AUTH_REFRESH_IDLE_TTL.ms)
    yield 'AUTH_REFRESH_GRACE: expected less than AUTH_REFRESH_IDLE_TTL'
  if (settings.PORT !== 0 && settings.PORT === settings.AUTH_METRICS_PORT)
    yield `AUTH_METRICS_PORT: expected a port of its own, got that of PORT, ${settings.PORT}`
  if (settings.DATABASE_URL && !settings.AUTH_SECRET) {
    yield 'AUTH_SECRET: expected with DATABASE_URL, the same for every replica, for example from "openssl rand -base64 48"'
  }
}
