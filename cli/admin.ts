import { randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config.ts'
import { chosenStore, isMissing } from '../stores/open.ts'
import { confirm, readNewPassword } from './ask.ts'
import type { AdminCommand, Given, Io, List } from './command.ts'
import { CommandError, exitCodes } from './exit.ts'
import { type Output, printable } from './output.ts'
import { readSettings, refuseDamaged } from './places.ts'

// biome-ignore lint/suspicious/noExplicitAny: what the routes answer is in their schemas
export type Json = any

/** The routes of `/admin/`, for a command to call. */
export interface Admin {
  /** @returns the body of the answer @throws {CommandError} with the problem in one line */
  call(method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: object): Promise<Json>
  /** All rows of a list, page by page. @param member of the answer that has them */
  pages(path: string, member: string): AsyncGenerator<Json[]>
}

interface Run {
  io: Io
  args: string[]
  options: Record<string, unknown>
  output: Output
}

/**
 * Runs a command that makes requests to `/admin/`, through the service's own app on the same store, which never
 * listens: so the command line and HTTP cannot differ. A service that runs beside it notices within a second.
 *
 * @throws {CommandError} when it is refused or the store does not answer
 * @throws {ConfigError} for a setting that is wrong
 */
export async function administer(command: AdminCommand, { io, args, options, output }: Run): Promise<void> {
  const config = readSettings(io.env)
  for (const warning of config.warnings) io.stderr.write(`${warning}\n`)
  const log = createLog(io)
  const key = randomBytes(32).toString('base64url')
  // Opened by the first request: wrong arguments are refused before a store is made.
  let app: Promise<FastifyInstance> | undefined
  const open = () => {
    app ??= openApp(command, { config, key, io, log })
    return app
  }
  try {
    await work(command, { io, args, options, output }, createAdmin(open, key, log), config.AUTH_PASSWORD_MIN)
  } finally {
    output.endProgress()
    await (await app)?.close()
  }
}

/** @param leastCharacters of a password */
async function work(command: AdminCommand, { io, args, options, output }: Run, admin: Admin, leastCharacters: number) {
  const given: Given = { args, options, found: undefined, password: '', stdin: io.stdin }
  if (command.find) given.found = await command.find(admin, args[0] as string)
  if (command.takesPassword) given.password = await readNewPassword(io, options, leastCharacters)
  if (command.confirm) await confirm(io, command.confirm(given), options)
  if (command.list) return printList(admin, output, command.list(given))
  const answer = await command.act?.(admin, given)
  if (!output.isJson) output.print(command.text?.(answer, given) ?? '')
  else output.print(JSON.stringify(command.json ? await command.json(answer, given, admin) : answer))
  const refused = command.refused?.(answer)
  if (refused !== undefined) throw new CommandError(refused, exitCodes.problems)
}

type Log = ReturnType<typeof createLog>

interface AppOptions {
  config: Config
  key: string
  io: Io
  log: Log
}

/** The service's own app, which never listens, for a command that asks it for more than its routes do. */
export const openService = (io: Io, config: Config, needs: Needs): Promise<FastifyInstance> => {
  const key = randomBytes(32).toString('base64url')
  return openApp(needs, { config, key, io, log: createLog(io) })
}

type Needs = Pick<AdminCommand, 'mayMakeStore' | 'makesSecret' | 'readsWebhooks'>

async function openApp(
  { mayMakeStore, makesSecret, readsWebhooks }: Needs,
  { config, key, io, log }: AppOptions,
): Promise<FastifyInstance> {
  // Only a start of the service declares the clients in AUTH_CLIENTS_FILE.
  const { AUTH_CLIENTS_FILE: _, AUTH_WEBHOOKS_FILE: webhooks, ...rest } = config
  const settings = readsWebhooks && webhooks !== undefined ? { ...rest, AUTH_WEBHOOKS_FILE: webhooks } : rest
  const location = chosenStore(settings)
  if (!mayMakeStore && isMissing(location)) {
    throw new CommandError(
      `There is no embedded store in ${settings.AUTH_DATA_DIR}; set AUTH_DATA_DIR or DATABASE_URL`,
      exitCodes.unavailable,
    )
  }
  if (location.kind === 'lmdb') refuseDamaged(location.dir)
  const [{ buildApp }, { lazyCompilers }] = await Promise.all([import('../app.ts'), import('./lazy-compilers.ts')])
  const app = await buildApp(
    { ...settings, ...(!io.env['LOG_LEVEL'] && { LOG_LEVEL: 'warn' }) },
    { logStream: log, command: { key, makesSecret: makesSecret === true }, schemaController: lazyCompilers },
  )
  if (app.store.isNew)
    io.stderr.write(`A new store was made in ${location.kind === 'lmdb' ? location.dir : 'the database'}.\n`)
  return app
}

interface LogObject {
  err?: Error
}

/**
 * Where the log goes: to stderr if LOG_LEVEL is set, events included. Otherwise only what went wrong outside of the
 * command's own requests, as text; why a request failed is in its answer and in `lastCause`.
 */
function createLog({ stderr, env }: Io) {
  const log = {
    // Has pino set `lastObj`, `lastMsg` and `lastLogger` before each write.
    [Symbol.for('pino.metadata')]: true,
    lastObj: undefined as LogObject | undefined,
    lastMsg: undefined as string | undefined,
    lastLogger: undefined as { bindings(): { reqId?: string } } | undefined,
    /** why the last request failed, in the words of the log */
    lastCause: undefined as string | undefined,
    write(line: string): void {
      const problem = log.lastObj?.err?.message
      const isOfRequest = log.lastLogger?.bindings().reqId !== undefined
      if (isOfRequest && problem) log.lastCause = problem
      if (env['LOG_LEVEL']) stderr.write(line)
      else if (!isOfRequest) stderr.write(`${printable(problem ? `${log.lastMsg}: ${problem}` : `${log.lastMsg}`)}\n`)
    },
  }
  return log
}

function createAdmin(open: () => Promise<FastifyInstance>, key: string, log: Log): Admin {
  const call: Admin['call'] = async (method, url, body) => {
    const app = await open()
    const answer = await app.inject({ method, url, headers: { authorization: key }, ...(body && { payload: body }) })
    const { statusCode, payload } = answer
    if (statusCode < 400) return payload === '' ? undefined : answer.json()
    throw new CommandError(
      lineOf(answer.json(), log.lastCause),
      statusCode === 503 ? exitCodes.unavailable : exitCodes.problems,
    )
  }
  return {
    call,
    async *pages(path, member) {
      let cursor: string | undefined
      do {
        const page = await call(
          'GET',
          cursor === undefined ? path : `${path}${path.includes('?') ? '&' : '?'}after=${cursor}`,
        )
        yield page[member]
        cursor = page.next
      } while (cursor !== undefined)
    },
  }
}

/** A problem (RFC 9457) in one line, with the members of the body that it names; after a 5xx, with the cause. */
function lineOf({ status, detail, errors = [] }: Json, cause: string | undefined): string {
  const unsaid = errors
    .filter((error: Json) => !detail.includes(error.detail))
    .map((error: Json) => `${error.pointer} ${error.detail}`)
  const why = status >= 500 && cause !== undefined ? [cause] : []
  return printable([detail, ...unsaid, ...why].join(': ').replace(/\s+/g, ' '))
}

/** Prints all rows of a list: a table, or one JSON document whose rows are written as they come. */
async function printList({ pages }: Admin, output: Output, { path, member, columns }: List): Promise<void> {
  const cellsOf = (row: Json) =>
    Object.values(columns).map((column) => printable(typeof column === 'string' ? row[column] : column(row)))
  const rows: string[][] = []
  let read = 0
  if (output.isJson) output.print(`{"${member}":[`)
  for await (const page of pages(path, member)) {
    if (output.isJson) {
      for (const [at, row] of page.entries()) output.print(`${read + at === 0 ? ' ' : ','}${JSON.stringify(row)}`)
    } else rows.push(...page.map(cellsOf))
    read += page.length
    output.progress(`reading ${member}: ${read.toLocaleString('en-US')}`)
  }
  if (output.isJson) output.print(']}')
  else if (rows.length === 0) output.print(`There are no ${member}.`)
  else output.print((await import('./table.ts')).table(Object.keys(columns), rows, output.columns))
}
