import { randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config.ts'
import { hasLmdbStore } from '../stores/lmdb/file.ts'
import { CommandError, exitCodes } from './exit.ts'
import { createOutput, type Output, printable, table } from './output.ts'
import { readSettings, refuseDamaged } from './places.ts'

// biome-ignore lint/suspicious/noExplicitAny: what the routes answer is in their schemas
export type Json = any

/** The routes of `/admin/`, for a command to call. */
export interface Administration {
  config: Config
  /** @returns the body of the answer @throws {CommandError} with the problem in one line */
  call(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: object): Promise<Json>
  /** All rows of a list, page by page. @param member of the answer that has them */
  pages(path: string, member: string): AsyncGenerator<Json[]>
}

/**
 * Makes a command of work at `/admin/`. Commander's last two arguments are the options and itself.
 *
 * The app is the one that the service is, on the same store, and never listens; what the command does takes the same way as a
 * request, so that the two cannot differ. A service that runs beside it notices within a second.
 *
 * Only the service makes keys, rotates, sweeps and declares clients.
 *
 * @param mayMakeStore whether an embedded store that is not there is made, rather than taken for a mistake in AUTH_DATA_DIR
 * @param makesSecret whether what the command makes is sealed, so that a store that has no secret yet gets one
 */
export const administering =
  <Options extends { json?: true }>(
    work: (admin: Administration, output: Output, options: Options, ...names: string[]) => Promise<void>,
    { mayMakeStore = false, makesSecret = false } = {},
  ) =>
  async (...args: unknown[]): Promise<void> => {
    const options = args.at(-2) as Options
    const output = createOutput(options.json === true)
    const config = readSettings(process.env)
    for (const warning of config.warnings) process.stderr.write(`${warning}\n`)
    const log = createLog(process.env)
    const command = { key: randomBytes(32).toString('base64url'), makesSecret }
    // With the first request and not before: what is wrong with the arguments is said first, and makes no store.
    let app: Promise<FastifyInstance> | undefined
    const open = () => {
      app ??= openApp(config, { env: process.env, logStream: log, command, mayMakeStore })
      return app
    }
    try {
      await work(
        createAdministration(config, open, command.key, log.lastCause),
        output,
        options,
        ...(args.slice(0, -2).flat() as string[]),
      )
    } finally {
      output.endProgress()
      await (await app)?.close()
    }
  }

interface Opening {
  env: NodeJS.ProcessEnv
  logStream: { write(line: string): void }
  command: { key: string; makesSecret: boolean }
  mayMakeStore: boolean
}

async function openApp(config: Config, { env, logStream, command, mayMakeStore }: Opening) {
  // The clients in AUTH_CLIENTS_FILE are declared by a start of the service, never by a look at it.
  const { AUTH_CLIENTS_FILE: _, ...settings } = config
  const { DATABASE_URL, AUTH_DATA_DIR } = settings
  if (!DATABASE_URL && !mayMakeStore && !hasLmdbStore(AUTH_DATA_DIR)) {
    throw new CommandError(
      `There is no embedded store in ${AUTH_DATA_DIR}; set AUTH_DATA_DIR or DATABASE_URL`,
      exitCodes.unavailable,
    )
  }
  if (!DATABASE_URL) refuseDamaged(AUTH_DATA_DIR)
  // Loading it is most of what a command takes; --help does without.
  const { buildApp } = await import('../app.ts')
  const app = await buildApp({ ...settings, ...(!env['LOG_LEVEL'] && { LOG_LEVEL: 'warn' }) }, { logStream, command })
  if (app.store.isNew)
    process.stderr.write(`A new store was made in ${DATABASE_URL ? 'the database' : AUTH_DATA_DIR}.\n`)
  return app
}

/**
 * Where LOG_LEVEL is set, what is logged goes to stderr, the events too, which say who changed what. Where it is not: what went wrong
 * outside of the command's own requests, in words.
 */
function createLog(env: NodeJS.ProcessEnv) {
  let cause: string | undefined
  return {
    /** why the last request failed, in the words of the log */
    lastCause: () => cause,
    write(line: string): void {
      const { msg, reqId, err } = JSON.parse(line)
      if (reqId !== undefined && err?.message) cause = err.message
      if (env['LOG_LEVEL']) process.stderr.write(line)
      else if (reqId === undefined)
        process.stderr.write(`${printable(err?.message ? `${msg}: ${err.message}` : msg)}\n`)
    },
  }
}

function createAdministration(
  config: Config,
  open: () => Promise<FastifyInstance>,
  key: string,
  lastCause: () => string | undefined,
): Administration {
  async function call(method: 'GET' | 'POST' | 'PUT' | 'DELETE', url: string, body?: object): Promise<Json> {
    const app = await open()
    const headers = { authorization: key }
    const answer = await app.inject({ method, url, headers, ...(body && { payload: body }) })
    const { statusCode, payload } = answer
    if (statusCode < 400) return payload === '' ? undefined : answer.json()
    throw new CommandError(
      lineOf(answer.json(), lastCause()),
      statusCode === 503 ? exitCodes.unavailable : exitCodes.problems,
    )
  }

  return {
    config,
    call,
    async *pages(path, member) {
      let cursor: string | undefined
      do {
        const page = await call('GET', cursor === undefined ? path : `${path}?cursor=${cursor}`)
        yield page[member]
        cursor = page.next_cursor
      } while (cursor !== undefined)
    },
  }
}

/** A problem (RFC 9457) in one line, with what it says of the members of the body. Whoever types this may also know the cause. */
function lineOf({ status, detail, errors = [] }: Json, cause: string | undefined): string {
  const unsaid = errors
    .filter((error: Json) => !detail.includes(error.detail))
    .map((error: Json) => `${error.pointer} ${error.detail}`)
  const why = status >= 500 && cause !== undefined ? [cause] : []
  return printable([detail, ...unsaid, ...why].join(': ').replace(/\s+/g, ' '))
}

/**
 * Prints all rows of a list: a table, or one JSON document whose rows are written as they come.
 *
 * @param member of the answer that has the rows, and of the document
 */
export async function printList(
  { pages }: Administration,
  output: Output,
  {
    path,
    member,
    head,
    cells,
  }: { path: string; member: string; head: string[]; cells: (row: Json) => (string | number)[] },
): Promise<void> {
  const rows: (string | number)[][] = []
  let read = 0
  if (output.isJson) output.print(`{"${member}":[`)
  for await (const page of pages(path, member)) {
    if (output.isJson) {
      for (const row of page) output.print(`${read++ === 0 ? ' ' : ','}${JSON.stringify(row)}`)
    } else {
      for (const row of page) rows.push(cells(row).map((cell) => (typeof cell === 'string' ? printable(cell) : cell)))
      read += page.length
    }
    output.progress(`reading ${member}: ${read.toLocaleString('en-US')}`)
  }
  if (output.isJson) output.print(']}')
  else output.print(rows.length > 0 ? table(head, rows) : `There are no ${member}.`)
}
