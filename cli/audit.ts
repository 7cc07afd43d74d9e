import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { AuditFilter, AuditRow } from '../domain/audit.ts'
import { isUuid } from '../domain/ids.ts'
import { isUsername, mapUsername } from '../domain/usernames.ts'
import { toAuditEvent } from '../schemas/audit.ts'
import { isWanted } from '../stores/audit.ts'
import type { Store } from '../stores/store.ts'
import type { Io, Options } from './command.ts'
import { CommandError, exitCodes } from './exit.ts'
import { type Output, printable, when } from './output.ts'
import { openPlace, readPlace, readSettings } from './places.ts'

const rowsPerPage = 500
const followMs = 500

/**
 * `latchkey audit`: what happened, the newest first; with `--follow` what happens from now on, as it comes.
 *
 * @returns the exit code
 * @throws {CommandError} for a user who is not there
 */
export async function audit(io: Io, options: Options, output: Output): Promise<number> {
  const config = readSettings(io.env)
  const store = await openPlace(readPlace(undefined, config, io.env), { mustExist: true })
  try {
    const filter = await filterOf(store, options)
    const print = printer(store, io, output)
    if (options['follow']) await follow(store, filter, print)
    else if ((await list(store, filter, options['limit'], print)) === 0 && !output.isJson)
      output.print('There are no such events.')
    return exitCodes.fine
  } finally {
    await store.close()
  }
}

async function filterOf(store: Store, { user, session, client, event, since }: Options): Promise<AuditFilter> {
  return {
    ...(user !== undefined && { user: await idOf(store, user) }),
    ...(session !== undefined && { session }),
    ...(client !== undefined && { client }),
    ...(event !== undefined && { event }),
    ...(since !== undefined && { since }),
  }
}

/** A user who was deleted has an id alone. */
async function idOf(store: Store, user: string): Promise<string> {
  const found = isUsername(user) ? await store.findUserByName(mapUsername(user)) : undefined
  if (found) return found.id
  if (isUuid(user)) return user
  throw new CommandError(`There is no user ${printable(user)}; one who was deleted has an id alone`, exitCodes.problems)
}

type Print = (rows: AuditRow[]) => Promise<void>

function printer(store: Store, { stdout }: Io, output: Output): Print {
  return async (rows) => {
    const ids = [...new Set(rows.flatMap(({ user }) => user ?? []))]
    const users = output.isJson ? [] : await store.findRows('users', ids)
    const names = new Map(users.flatMap((user) => (user ? [[user.id, user.username]] : [])))
    for (const row of rows) output.print(output.isJson ? JSON.stringify(toAuditEvent(row)) : lineOf(row, names))
    if (stdout.writableNeedDrain) await once(stdout, 'drain')
  }
}

/** `2026-11-26 09:00:00Z  login.failed  user=ada address=192.0.2.1 reason="wrong password"` */
function lineOf(row: AuditRow, names: Map<string, string>): string {
  const { user, session, client, by, address, detail } = row
  const whose = user === undefined ? undefined : (names.get(user) ?? user)
  const members = Object.entries({ user: whose, by, client, address, session, ...detail })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${wordOf(value)}`)
  return printable([when(new Date(row.at).toISOString()), row.event, members.join(' ')].join('  ').trimEnd())
}

const wordOf = (value: unknown): string =>
  typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)

async function list(store: Store, filter: AuditFilter, most: number | undefined, print: Print): Promise<number> {
  let printed = 0
  let after: string | undefined
  do {
    const limit = Math.min(rowsPerPage, (most ?? Number.POSITIVE_INFINITY) - printed)
    const page = await store.listAudit(filter, { limit, ...(after !== undefined && { after }) })
    await print(page.rows)
    printed += page.rows.length
    after = page.next
    await sleep(0)
  } while (after !== undefined && printed < (most ?? Number.POSITIVE_INFINITY))
  return printed
}

/** What there is since the time that was asked for, and then what comes, the oldest first, until a signal. */
async function follow(store: Store, filter: AuditFilter, print: Print): Promise<void> {
  const ended = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => ended.abort())
  let cursor = await store.auditEnd()
  const seen = new Set<string>()
  if (filter.since !== undefined) {
    const before: AuditRow[] = []
    await list(store, filter, undefined, async (rows) => void before.push(...rows))
    for (const { id } of before) seen.add(id)
    await print(before.toReversed())
  }
  while (!ended.signal.aborted) {
    const page = await store.auditSince(cursor, rowsPerPage)
    cursor = page.cursor
    await print(page.rows.filter((row) => isWanted(filter, row) && !seen.has(row.id)))
    if (!page.more) await sleep(followMs, undefined, { signal: ended.signal }).catch(() => {})
  }
}
