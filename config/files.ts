import { accessSync, constants, readFileSync, statSync } from 'node:fs'
import { ConfigError } from './error.ts'

/** Secrets may come by file, which no process list and no `docker inspect` shows. */
export const byFile = [
  'AUTH_SECRET',
  'AUTH_SECRET_PREVIOUS',
  'DATABASE_URL',
  'AUTH_SMTP_URL',
  'AUTH_MAIL_WEBHOOK_SECRET',
] as const

/** @returns the setting that a secret came by */
export function takeFromFile(given: Record<string, string>, name: (typeof byFile)[number]): string {
  const file = `${name}_FILE`
  const path = given[file]
  if (path === undefined) return name
  if (given[name] !== undefined) throw new ConfigError(`${file}: expected only one of ${name} and ${file}`)
  try {
    given[name] = readFileSync(path, 'utf8')
  } catch (error) {
    throw unreadable(file, path, (error as NodeJS.ErrnoException).code)
  }
  return file
}

/** Checks a file that is read later, when the store is open, as far as that is possible without reading it. */
export function refuseUnreadable(
  given: Record<string, string>,
  name: 'AUTH_SIGNING_KEY_FILE' | 'AUTH_CLIENTS_FILE' | 'AUTH_WEBHOOKS_FILE',
): void {
  const path = given[name]
  if (path === undefined) return
  let problem: string | undefined
  try {
    accessSync(path, constants.R_OK)
    const stats = statSync(path)
    problem = stats.isDirectory() ? 'a directory' : stats.isFile() && stats.size === 0 ? 'an empty file' : undefined
  } catch (error) {
    problem = (error as NodeJS.ErrnoException).code
  }
  if (problem) throw unreadable(name, path, problem)
}

const unreadable = (name: string, path: string, got?: string) =>
  new ConfigError(`${name}: expected a file that can be read, got ${got} for ${JSON.stringify(path)}`)

/**
 * Trims the secrets that may come by file: editors end files with a line break, and tools turn files into variables.
 *
 * @returns warnings
 */
export function trimSecrets(given: Record<string, string>): string[] {
  const { AUTH_SECRET: secret, AUTH_SECRET_FILE: file } = given
  for (const name of byFile) if (given[name]) given[name] = given[name].trim()
  if (secret === undefined || file !== undefined || secret === given['AUTH_SECRET']) return []
  // Until 0.2.0 the variable was not trimmed: what was sealed with it still opens.
  given['AUTH_SECRET_PREVIOUS'] ??= secret
  return ['AUTH_SECRET begins or ends with a blank or a line break, which is left out']
}
