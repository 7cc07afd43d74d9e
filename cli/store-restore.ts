import { createReadStream } from 'node:fs'
import type { Readable } from 'node:stream'
import type { Config } from '../config.ts'
import { revocationExpiry } from '../domain/lifetimes.ts'
import type { SigningKeyRecord } from '../domain/signing-key.ts'
import { makeSigningKey } from '../plugins/keys/key-ring.ts'
import { createSecrets } from '../plugins/keys/secrets.ts'
import {
  type BackupHeader,
  BackupRefused,
  type BackupSummary,
  readBackup,
  type SavedTable,
} from '../stores/moving/backup.ts'
import { RestoreRefused, type RestoreTarget } from '../stores/moving/moving.ts'
import { restoreStore } from '../stores/open.ts'
import { confirm } from './ask.ts'
import type { Io, Options } from './command.ts'
import { CommandError, exitCodes } from './exit.ts'
import { interruptible } from './interrupt.ts'
import { type Output, when } from './output.ts'
import { countsOf, labelOf, newestSealed, opener, type Place, readPlace, readSettings, secretsFor } from './places.ts'

/** A restore, as its options have it. */
interface Work {
  config: Config
  place: Place
  secrets: string[]
  endsSessions: boolean
  interrupted: AbortSignal
  onProgress(line: string): void
}

/**
 * `latchkey store restore`: fills an empty store from a backup, or leaves the store as it is.
 *
 * @returns the exit code, 0
 * @throws {CommandError} otherwise
 */
export async function storeRestore(io: Io, options: Options, output: Output, [from = '']: string[]): Promise<number> {
  const config = readSettings(io.env)
  const place = readPlace(options['store'], config, io.env)
  const isDryRun = options['dryRun'] === true
  if (from === '-' && options['replace'] && !options['yes'] && !isDryRun)
    throw new CommandError('stdin is the backup: pass --yes to confirm --replace', exitCodes.usage)
  const startedAt = performance.now()
  try {
    const summary = await interruptible(async (interrupted) => {
      const work: Work = {
        ...{ config, place, interrupted, secrets: secretsFor(place, config) },
        endsSessions: options['endSessions'] === true,
        onProgress: io.stderr.isTTY ? output.progress : () => {},
      }
      if (isDryRun) return verify(work, openBackup(from, io))
      // A file is read twice, so that nothing is begun with one that is damaged. A pipe is read once: what came of it
      // is in no store before its end was seen.
      const verified = from === '-' ? undefined : await verify(work, openBackup(from, io))
      if (options['replace'] && verified)
        await confirm(io, `Replace everything in ${place.label} by what was there ${at(verified)}?`, options)
      return restore(work, openBackup(from, io), options['replace'] === true)
    })
    const seconds = (performance.now() - startedAt) / 1000
    const report = { ...summary, place, seconds, isDryRun, endsSessions: options['endSessions'] === true }
    output.print(output.isJson ? JSON.stringify(documentOf(report)) : textOf(report))
    return exitCodes.fine
  } catch (error) {
    throw explained(error, place, from === '-' ? 'stdin' : from)
  } finally {
    output.endProgress()
  }
}

const openBackup = (from: string, { stdin }: Io): Readable => (from === '-' ? stdin : createReadStream(from))

/** Reads all of a backup, and tries the secret on its keys. */
async function verify(work: Work, source: Readable): Promise<BackupSummary> {
  const keys: SigningKeyRecord[] = []
  const summary = await read(work, source, 'checking', (table, rows) => {
    if (table === 'signingKeys') keys.push(...(rows as SigningKeyRecord[]))
  })
  requireSecret(keys, work)
  return summary
}

async function restore(work: Work, source: Readable, replace: boolean): Promise<BackupSummary> {
  let summary: BackupSummary | undefined
  await restoreStore(work.place, { replace }, async (target) => {
    const keys: SigningKeyRecord[] = []
    summary = await read(work, source, 'restoring', async (table, rows) => {
      if (table === 'signingKeys') keys.push(...(rows as SigningKeyRecord[]))
      else if (table === 'revocations') await Promise.all(rows.map((row) => target.revoke(row)))
      else if ((table === 'sessions' || table === 'browserSessions') && work.endsSessions) return
      else if ((await target.importRows(table, rows)) < rows.length)
        throw new BackupRefused(`it is damaged: two rows of ${labelOf(table)} cannot be beside each other`)
    })
    requireSecret(keys, work)
    await replaceKeys(keys, target, work)
    work.interrupted.throwIfAborted()
  })
  return summary as BackupSummary
}

/**
 * What was revoked since the backup is not known any more, so every access token from before is refused: its key is
 * withdrawn, and another signs. Clients refresh and go on.
 */
async function replaceKeys(keys: SigningKeyRecord[], target: RestoreTarget, { config, secrets }: Work): Promise<void> {
  const now = Date.now()
  const expiresAt = revocationExpiry(now, config.AUTH_ACCESS_TTL.seconds)
  for (const { kid } of keys) await target.revoke({ kind: 'key', id: kid, revokedAt: now, expiresAt })
  const newest = newestSealed(keys)
  // A store that needs no secret makes its first key, and its secret, when it is started.
  if (!newest || secrets.length === 0) return
  const createdAt = Math.max(now, newest.createdAt + 1)
  const key = await makeSigningKey(newest.alg, createSecrets(secrets), { createdAt, signsFrom: now })
  await target.importRows('signingKeys', [key])
}

/** Under another secret every refresh token would be refused: what looks like a perfect restore logs everyone out. */
function requireSecret(keys: SigningKeyRecord[], { secrets, endsSessions, place }: Work): void {
  const newest = newestSealed(keys)
  if (!newest || endsSessions || (secrets.length > 0 && opener(secrets)(newest))) return
  const putBack = place.kind === 'lmdb' ? `put it back as ${place.dir}/secret, or set it` : 'set it'
  throw new CommandError(
    `AUTH_SECRET: expected the secret that the backup was made beside: ${putBack}; ` +
      'if it is lost, --end-sessions restores the accounts, and all users log in again',
    exitCodes.setting,
  )
}

async function read(
  { interrupted, onProgress }: Work,
  source: Readable,
  what: string,
  take: (table: SavedTable, rows: never[]) => Promise<unknown> | unknown,
): Promise<BackupSummary> {
  const done: Partial<Record<SavedTable, number>> = {}
  return readBackup(source, async (table, rows) => {
    interrupted.throwIfAborted()
    await take(table, rows)
    done[table] = (done[table] ?? 0) + rows.length
    onProgress(`${what} ${labelOf(table)}: ${done[table]?.toLocaleString('en-US')}`)
  })
}

function explained(error: unknown, place: Place, from: string): unknown {
  const { syscall, message } = error as NodeJS.ErrnoException
  if (error instanceof BackupRefused)
    return new CommandError(`${from}: ${message}. Nothing was changed.`, exitCodes.problems)
  if (error instanceof RestoreRefused) {
    const advice = message === 'it is not empty' ? 'Pass --replace to have the backup in its place. ' : ''
    return new CommandError(`${place.label}: ${message}. ${advice}Nothing was changed.`, exitCodes.problems)
  }
  if (syscall === undefined) return error
  return new CommandError(`${message.split(',')[0]}: ${from}. Nothing was changed.`, exitCodes.problems)
}

const at = ({ header }: { header: BackupHeader }) => `at ${when(header.created_at)}`

type Report = BackupSummary & { place: Place; seconds: number; isDryRun: boolean; endsSessions: boolean }

const documentOf = ({ header, rows, sha256, place, seconds, isDryRun }: Report) => ({
  ...{ to: place.label, restored: !isDryRun, seconds: Math.round(seconds * 10) / 10 },
  ...{ created_at: header.created_at, release: header.release, store: header.store, rows, sha256 },
})

function textOf({ rows, place, seconds, isDryRun, endsSessions, ...backup }: Report): string {
  const counts = countsOf(rows)
  const { release, store } = backup.header
  const lines = [`A backup of ${store}, ${at(backup)}, by release ${release}: ${counts}`]
  if (isDryRun) lines.push('It is whole, and its keys open under the secret. Nothing was written.')
  else {
    lines.push(`Restored into ${place.label} in ${seconds.toFixed(1)} s.`)
    lines.push(
      endsSessions
        ? 'All users log in again.'
        : 'Sessions go on. Access tokens from before are refused, so clients refresh.',
    )
    lines.push('What was changed since the backup is as it was before: docs/backup.md says what to look after.')
  }
  return lines.join('\n')
}
