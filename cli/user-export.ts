import { closeSync, createWriteStream, existsSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { noPassword, type User } from '../domain/user.ts'
import { sync } from '../stores/lmdb/directory.ts'
import { pagesOf } from '../stores/moving/copy.ts'
import type { Store } from '../stores/store.ts'
import { confirm, isTerminal } from './ask.ts'
import type { Io, Options } from './command.ts'
import { CommandError, exitCodes } from './exit.ts'
import { interruptible } from './interrupt.ts'
import type { Output } from './output.ts'
import { openPlace, readPlace, readSettings } from './places.ts'

/**
 * `latchkey user export`: writes all users as JSON Lines.
 *
 * @returns the exit code, 0
 */
export async function userExport(io: Io, options: Options, output: Output, [file]: string[]): Promise<number> {
  const config = readSettings(io.env)
  const place = readPlace(undefined, config, io.env)
  const withHashes = options['withHashes'] === true
  if (file !== undefined && existsSync(file))
    throw new CommandError(`${file} is there already, and is not overwritten`, exitCodes.problems)
  if (isTerminal(io)) await confirm(io, questionOf(file, withHashes), options)
  const store = await openPlace(place, { mustExist: true })
  let users = 0
  try {
    const lines = (interrupted: AbortSignal) =>
      linesOf(store, withHashes, (page) => {
        interrupted.throwIfAborted()
        users += page
        output.progress(`exporting users: ${users.toLocaleString('en-US')}`)
      })
    await interruptible((interrupted) =>
      file === undefined
        ? pipeline(Readable.from(lines(interrupted)), io.stdout, { end: false })
        : writeFile(file, lines(interrupted)),
    )
  } finally {
    output.endProgress()
    await store.close()
  }
  io.stderr.write(`${users.toLocaleString('en-US')} users exported${file === undefined ? '' : ` to ${file}`}.\n`)
  return exitCodes.fine
}

const questionOf = (file: string | undefined, withHashes: boolean) =>
  `Export all users${withHashes ? ', with the hashes of their passwords,' : ''} to ${file ?? 'stdout'}?`

/** Under its own name only once it is whole. */
async function writeFile(file: string, lines: AsyncIterable<string>): Promise<void> {
  const draft = `${file}.${process.pid}.partial`
  try {
    const descriptor = openSync(draft, 'wx', 0o600)
    try {
      await pipeline(Readable.from(lines), createWriteStream('', { fd: descriptor, autoClose: false }))
      fsyncSync(descriptor)
    } finally {
      closeSync(descriptor)
    }
    renameSync(draft, file)
    sync(dirname(file))
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException
    if (syscall === undefined) throw error
    throw new CommandError(`${file}: it cannot be written (${code})`, exitCodes.problems)
  } finally {
    rmSync(draft, { force: true })
  }
}

async function* linesOf(store: Store, withHashes: boolean, onPage: (users: number) => void): AsyncGenerator<string> {
  for await (const page of pagesOf(store, 'users')) {
    onPage(page.length)
    yield page.map((user) => `${JSON.stringify(exported(user, withHashes))}\n`).join('')
  }
}

const timestamp = (ms: number | undefined) => (ms === undefined ? undefined : new Date(ms).toISOString())

/** A user as `cli/import/sources/latchkey.ts` reads it. */
const exported = (user: User, withHashes: boolean) => ({
  id: user.id,
  username: user.username,
  email: user.email,
  email_verified: user.email === undefined ? undefined : user.emailKey !== undefined,
  locale: user.locale,
  roles: user.roles,
  created_at: timestamp(user.createdAt),
  disabled_at: timestamp(user.disabledAt),
  source: user.source,
  external_id: user.externalId,
  // The keys of authenticator apps are not for a file, and passkeys are bound to the host name of this service.
  second_factor: user.hasFactors,
  password_hash: withHashes && user.passwordHash !== noPassword ? user.passwordHash : undefined,
})
