import { resolve } from 'node:path'
import { type Config, ConfigError, readConfig } from '../config.ts'
import { type Totp, totpContext } from '../domain/factor.ts'
import type { SigningKeyRecord } from '../domain/signing-key.ts'
import { sealContext } from '../plugins/keys/key-ring.ts'
import { readMadeSecret, secretPath } from '../plugins/keys/secret-file.ts'
import { createSecrets } from '../plugins/keys/secrets.ts'
import { checkFile, damageLine, hasLmdbStore, lmdbFile, StoreDamaged } from '../stores/lmdb/file.ts'
import { chosenStore, isMissing, openStore, type StoreLocation } from '../stores/open.ts'
import type { Store } from '../stores/store.ts'
import { CommandError, exitCodes } from './exit.ts'

/** Where a store is. */
export type Place = StoreLocation & { label: string }

type Env = Record<string, string | undefined>

/**
 * Reads an argument that names a store. It may hold no password: everyone on the machine can read arguments.
 *
 * @param text undefined for the store that the settings choose
 * @throws {CommandError} usage
 * @throws {ConfigError} when it names a setting that is missing
 */
export function readPlace(text: string | undefined, config: Config, env: Env): Place {
  const { DATABASE_URL, AUTH_DATA_DIR } = config
  const embedded = (dir: string) => labelled({ kind: 'lmdb', dir })
  const postgres = (url: string) => labelled({ kind: 'pg', url })

  if (text === undefined) return labelled(chosenStore(config))
  if (text === 'lmdb') return embedded(AUTH_DATA_DIR)
  if (text === 'pg') {
    if (!DATABASE_URL)
      throw new ConfigError('DATABASE_URL: expected a URL such as postgres://user:password@host:5432/database')
    return postgres(DATABASE_URL)
  }
  if (text.startsWith('lmdb:') && text.length > 5) return embedded(text.slice(5))
  if (text.startsWith('pg:') && text.length > 3) {
    const url = env[text.slice(3)]
    if (!url || !isPostgresUrl(url))
      throw new ConfigError(`${text.slice(3)}: expected a URL such as postgres://user:password@host:5432/database`)
    return postgres(url)
  }
  if (isPostgresUrl(text)) {
    if (withoutSecrets(text) === text) return postgres(text)
    const advice = 'put the URL into DATABASE_URL and write "pg", or into another variable and write "pg:NAME"'
    throw new CommandError(`A password in an argument is shown to everyone on this machine: ${advice}`, exitCodes.usage)
  }
  if (/^[a-z]+:/.test(text) || !/[./]/.test(text)) {
    const shown = JSON.stringify(text.replace(/\/\/.*/s, '//…'))
    throw new CommandError(
      `Expected lmdb, lmdb:DIR, a path, pg, pg:NAME or postgres://…, got ${shown}`,
      exitCodes.usage,
    )
  }
  return embedded(text)
}

const labelled = (location: StoreLocation): Place => ({
  ...location,
  label: location.kind === 'lmdb' ? `lmdb ${location.dir}` : `pg ${withoutSecrets(location.url)}`,
})

/** Whether two places are one store. */
export const isSamePlace = (a: Place, b: Place) =>
  a.kind === 'lmdb' && b.kind === 'lmdb'
    ? resolve(a.dir) === resolve(b.dir)
    : a.kind === 'pg' && b.kind === 'pg' && a.url === b.url

/**
 * Opens a store.
 *
 * @param mustExist refuses an embedded store that is missing, rather than making it
 * @throws {CommandError} when it is missing, damaged or cannot be opened
 */
export async function openPlace(place: Place, { mustExist }: { mustExist: boolean }): Promise<Store> {
  if (mustExist && isMissing(place)) {
    throw new CommandError(
      `${place.label}: there is no embedded store; set AUTH_DATA_DIR or name another directory`,
      exitCodes.unavailable,
    )
  }
  if (place.kind === 'lmdb') refuseDamaged(place.dir)
  try {
    return await openStore(place)
  } catch (error) {
    if (place.kind === 'pg') throw new CommandError(`${place.label}: ${reasonOf(error)}`, exitCodes.unavailable)
    if (error instanceof StoreDamaged) throw new CommandError(damageLine(place.dir, error), exitCodes.problems)
    throw new CommandError(`${place.label}: it cannot be opened: ${reasonOf(error)}`, exitCodes.unavailable)
  }
}

/** Longest time to check the pages of a store before LMDB opens it. */
const longestCheckMs = 2_000

/** @throws {CommandError} for an embedded store with a damaged page, at which LMDB would end the process by a signal */
export function refuseDamaged(dataDir: string): void {
  try {
    if (hasLmdbStore(dataDir)) checkFile(lmdbFile(dataDir), { withinMs: longestCheckMs })
  } catch (error) {
    // Opening the store reports everything else.
    if (error instanceof StoreDamaged) throw new CommandError(damageLine(dataDir, error), exitCodes.problems)
  }
}

/**
 * The secrets of a store: AUTH_SECRET, or else the secret file beside an embedded store.
 *
 * @returns the current one first; empty when none is known
 */
export function secretsFor(place: Place, { AUTH_SECRET, AUTH_SECRET_PREVIOUS }: Config): string[] {
  const made = place.kind === 'lmdb' ? readMadeSecret(place.dir) : undefined
  return [AUTH_SECRET ?? made, AUTH_SECRET_PREVIOUS].filter((secret) => secret !== undefined)
}

/** The file with the secret that an embedded store has made; undefined where AUTH_SECRET is set. */
export const madeSecretPath = (place: Place, { AUTH_SECRET }: Config): string | undefined =>
  place.kind === 'lmdb' && AUTH_SECRET === undefined ? secretPath(place.dir) : undefined

/** The newest key that is sealed under AUTH_SECRET. */
export const newestSealed = (keys: SigningKeyRecord[]): SigningKeyRecord | undefined =>
  keys
    .filter(({ sealedPrivateKey }) => sealedPrivateKey !== undefined)
    .reduce<SigningKeyRecord | undefined>((a, b) => (a && a.createdAt > b.createdAt ? a : b), undefined)

/** A table, for people. */
export const labelOf = (table: string) => (table === 'signingKeys' ? 'signing keys' : table)

/** `users 1,200, sessions 7` */
export const countsOf = (rows: Record<string, number>) =>
  Object.entries(rows)
    .map(([table, count]) => `${labelOf(table)} ${count.toLocaleString('en-US')}`)
    .join(', ')

/** @returns whether a signing key opens under one of the secrets */
export function opener(secrets: string[]): (key: SigningKeyRecord) => boolean {
  const { open } = createSecrets(secrets)
  return ({ kid, sealedPrivateKey }) =>
    sealedPrivateKey !== undefined && open(sealedPrivateKey, sealContext(kid)) !== undefined
}

/** The same of the secret of an authenticator app. */
export function totpOpener(secrets: string[]): (userId: string, totp: Totp) => boolean {
  const { open } = createSecrets(secrets)
  return (userId, { id, secret }) => open(Buffer.from(secret, 'base64url'), totpContext(userId, id)) !== undefined
}

/** The key that has to open for the service to start: the newest of its algorithm, or else of any. */
export function sealedSigner(
  keys: SigningKeyRecord[],
  { AUTH_SIGNING_ALG: alg }: Config,
): SigningKeyRecord | undefined {
  const sealed = keys
    .filter(({ sealedPrivateKey }) => sealedPrivateKey !== undefined)
    .toSorted((a, b) => b.createdAt - a.createdAt)
  return sealed.find((key) => key.alg === alg) ?? sealed[0]
}

/**
 * Reads the settings. With DATABASE_URL and no AUTH_SECRET, the secret beside an embedded store is taken, so that
 * moving away from it needs no other setting.
 */
export function readSettings(env: Env): Config {
  const isOpen = (env['DATABASE_URL'] || env['DATABASE_URL_FILE']) && !env['AUTH_SECRET'] && !env['AUTH_SECRET_FILE']
  const dataDir = env['AUTH_DATA_DIR'] || './data'
  return readConfig(
    isOpen && readMadeSecret(dataDir) !== undefined ? { ...env, AUTH_SECRET_FILE: secretPath(dataDir) } : env,
  )
}

const isPostgresUrl = (text: string) => /^postgres(ql)?:\/\/./.test(text)

/** A URL without its password and its parameters, one of which may be a password. */
function withoutSecrets(url: string): string {
  return url.replace(/^([a-z]+:\/\/[^:/?#@]*)(:.*)?@/s, '$1@').replace(/(password|sslpassword)=[^&#]*/gi, '$1=…')
}

function reasonOf(error: unknown): string {
  const { cause, message } = error as Error
  return ((cause as Error | undefined)?.message || message).replace(/\s+/g, ' ')
}
