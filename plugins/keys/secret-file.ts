import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, renameSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { ConfigError } from '../../config.ts'
import { keepPrivate, sync } from '../../stores/lmdb/directory.ts'

const minCharacters = 32

/** Where the secret of an embedded store is that was not given one. */
export const secretPath = (dataDir: string): string => join(dataDir, 'secret')

/** What to do, for the lines that ask for a secret. */
export const ifSecretIsLost = 'if it is lost: latchkey keys remove --all --lost-secret, see docs/keys.md'
export const ifMadeSecretIsGone = `put it back from a backup; ${ifSecretIsLost}`

/** The text of the file. @throws {ConfigError} when it cannot be read */
function readText(path: string): string | undefined {
  try {
    keepPrivate(path)
    return readFileSync(path, 'utf8').trim()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    throw new ConfigError(`AUTH_DATA_DIR: expected a secret that can be read in ${path}, got ${code}`)
  }
}

/**
 * The secret that was made beside an embedded store.
 *
 * @returns undefined when there is none
 * @throws {ConfigError} when there is one and it cannot be used
 */
export function readMadeSecret(dataDir: string): string | undefined {
  const path = secretPath(dataDir)
  const secret = readText(path)
  if (secret === undefined || secret.length >= minCharacters) return secret
  throw new ConfigError(
    `AUTH_DATA_DIR: expected a secret of at least ${minCharacters} characters in ${path}, got ` +
      `${secret.length}: ${ifMadeSecretIsGone}`,
  )
}

/**
 * The same, for who has lost it: one that was cut short is as good as none.
 *
 * @throws {ConfigError} when it cannot be read: then it need not be lost
 */
export function readWhatIsLeft(dataDir: string): string | undefined {
  const secret = readText(secretPath(dataDir))
  return secret !== undefined && secret.length >= minCharacters ? secret : undefined
}

/**
 * Makes a secret. The winner of a hard link is the one, whichever of several first starts it was; a crash never leaves
 * half a file.
 *
 * @param replaces puts it in the place of what is left of one
 */
export function makeSecret(dataDir: string, { replaces = false } = {}): void {
  const path = secretPath(dataDir)
  const draft = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`
  try {
    const file = openSync(draft, 'wx', 0o600)
    writeSync(file, `${randomBytes(48).toString('base64url')}\n`)
    fsyncSync(file)
    closeSync(file)
    if (replaces) renameSync(draft, path)
    else {
      try {
        linkSync(draft, path)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      }
      unlinkSync(draft)
    }
    sync(dataDir)
  } catch (error) {
    throw new ConfigError(
      `AUTH_DATA_DIR: expected a directory that can be written, got ` +
        `${(error as NodeJS.ErrnoException).code} for ${dataDir}`,
    )
  }
}
