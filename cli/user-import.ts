import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config.ts'
import { type Caller, commandLine } from '../domain/caller.ts'
import { type Totp, totpContext } from '../domain/factor.ts'
import type { End } from '../domain/lifetimes.ts'
import { type OnConflict, onConflicts, planImport } from '../domain/user-import.ts'
import type { MembersOf } from '../events.ts'
import { auditRowOf } from '../plugins/run/audit-rows.ts'
import { patiently } from '../stores/moving/copy.ts'
import { chosenStore, isMissing } from '../stores/open.ts'
import type { Store } from '../stores/store.ts'
import { openService } from './admin.ts'
import type { Io, Options } from './command.ts'
import { CommandError, exitCodes } from './exit.ts'
import { type ImportedTotp, ImportRefused } from './import/imported-user.ts'
import { type Input, openInput } from './import/input.ts'
import { type CheckedRow, check, type PlacedRow, type Survey, survey } from './import/read.ts'
import { createReport, type Line, type Report } from './import/report.ts'
import { type SourceName, sources } from './import/sources/index.ts'
import { type Target, takeRows } from './import/take.ts'
import { notes, toRow } from './import/to-row.ts'
import { interruptedExitCode, interruptible } from './interrupt.ts'
import type { Output } from './output.ts'
import { readSettings } from './places.ts'

/** Between two looks at the progress. */
const rowsAtOnce = 1_000

/** Of `latchkey user import`: some rows were not taken. */
const notTakenExitCode = 3

interface Given {
  from: SourceName
  onConflict: OnConflict
  wrap: boolean
  isDryRun: boolean
  firebaseConfig: string | undefined
  report: string | undefined
}

interface Run {
  io: Io
  config: Config
  given: Given
  output: Output
  /** from the beginning */
  read: () => AsyncIterable<CheckedRow>
  interrupted: AbortSignal
}

/**
 * `latchkey user import`: takes the users of another system.
 *
 * @returns the exit code: 0, or 3 where rows were not taken
 */
export async function userImport(io: Io, options: Options, output: Output, paths: string[]): Promise<number> {
  const given = readOptions(options, paths)
  const config = readSettings(io.env)
  for (const warning of config.warnings) io.stderr.write(`${warning}\n`)
  const inputs: Input[] = []
  try {
    return await interruptible(async (interrupted) => {
      for (const path of paths) inputs.push(await openInput(path, io.stdin))
      const now = Date.now()
      const read = () => check(readAll(given, paths, inputs), (user) => toRow(user, { ...given, now }))
      return run({ io, config, given, output, read, interrupted })
    })
  } catch (error) {
    if (error instanceof ImportRefused) throw new CommandError(error.message, exitCodes.problems)
    throw error
  } finally {
    output.endProgress()
    for (const input of inputs) input.close()
  }
}

/** @throws {CommandError} usage */
function readOptions(options: Options, paths: string[]): Given {
  const { from, onConflict = 'skip', firebaseConfig, wrap, dryRun, report } = options
  const oneOf = (flag: string, names: readonly string[], name: string) => {
    if (!names.includes(name))
      throw new CommandError(
        `${flag}: expected one of ${names.join(', ')}, got ${JSON.stringify(name)}`,
        exitCodes.usage,
      )
  }
  oneOf('--from', Object.keys(sources), from)
  oneOf('--on-conflict', onConflicts, onConflict)
  if (firebaseConfig !== undefined && from !== 'firebase')
    throw new CommandError('--firebase-config is for --from firebase', exitCodes.usage)
  if (from === 'better-auth' && paths.length > 2)
    throw new CommandError('Expected one file, or those of "user" and "account"', exitCodes.usage)
  if (paths.filter((path) => path === '-').length > 1)
    throw new CommandError('- is there more than once: stdin can be read once', exitCodes.usage)
  return {
    ...{ from, onConflict, wrap: wrap === true, isDryRun: dryRun === true, report },
    firebaseConfig: firebaseConfig === undefined ? undefined : readText(firebaseConfig),
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new CommandError(`${path}: it cannot be read (${(error as NodeJS.ErrnoException).code})`, exitCodes.problems)
  }
}

/** The rows of all files: those of better-auth are of one database, and any others are read one after the other. */
async function* readAll({ from, firebaseConfig }: Given, paths: string[], inputs: Input[]): AsyncGenerator<PlacedRow> {
  const source = sources[from]
  const options = firebaseConfig === undefined ? {} : { firebaseConfig }
  const [first, second] = inputs as [Input, Input | undefined]
  if (from === 'better-auth' && second) yield* source.read(first.open(), { ...options, second: second.open() })
  else if (!second) yield* source.read(first.open(), options)
  else
    for (const [i, input] of inputs.entries())
      for await (const row of source.read(input.open(), options)) yield { ...row, file: paths[i] as string }
}

async function run({ io, config, given, output, read, interrupted }: Run): Promise<number> {
  const startedAt = performance.now()
  const surveyed = await survey(read, (rows) => {
    interrupted.throwIfAborted()
    if (rows % rowsAtOnce === 0) output.progress(`reading: ${count(rows)}`)
  })
  const toldLine = given.isDryRun ? lineTeller(output) : undefined
  const report = createReport(given.report, toldLine?.tell)
  try {
    const isWhole = await take({ io, config, given, output, read, interrupted }, surveyed, report)
    output.endProgress()
    const result = { given, report, isWhole, rows: surveyed.rows, seconds: (performance.now() - startedAt) / 1000 }
    if (toldLine) toldLine.end(documentOf(result))
    else if (output.isJson) output.print(JSON.stringify(documentOf(result)))
    if (!output.isJson) output.print(textOf(result))
    for (const line of warningsOf(result)) io.stderr.write(`${line}\n`)
    if (interrupted.aborted) {
      io.stderr.write('Interrupted. The same command goes on where it was.\n')
      return interruptedExitCode
    }
    return report.counts.skipped > 0 || !isWhole ? notTakenExitCode : exitCodes.fine
  } finally {
    report.close()
  }
}

/** @returns whether all rows were come to */
async function take(
  { io, config, given, output, read, interrupted }: Run,
  { rows, hashes, totps, isDouble }: Survey,
  report: Report,
): Promise<boolean> {
  const work = (target: Target) =>
    takeRows({
      ...{ rows: read(), isDouble, target, report, interrupted },
      stopsAtConflict: given.onConflict === 'fail',
      onRows: progressOf(output, rows),
    })
  // Before the first start there is nothing to look at, and to look makes nothing.
  if (given.isDryRun && isMissing(chosenStore(config))) return work(emptyTarget(given))
  const app = await openService(
    io,
    config,
    given.isDryRun ? {} : { mayMakeStore: true, ...(totps > 0 && { makesSecret: true }) },
  )
  try {
    const by = callerOf(app)
    if (hashes > 0 && !given.isDryRun) io.stderr.write(`${await estimateOf(app, by, hashes)}\n`)
    const told = () => {
      const { made, updated, unchanged, skipped } = report.counts
      const isChanged = made + updated > 0 && !given.isDryRun
      return isChanged ? { source: given.from, made, updated, unchanged, skipped } : undefined
    }
    return await tellOfRun(app, by, told, (store, end) => work(createTarget(app, by, store, given, end)))
  } finally {
    await app.close()
  }
}

type Members = MembersOf<'users.imported'>

/** Tells of a run in the log and in the audit rows, also where it fails in the middle: what is taken stays. */
async function tellOfRun(
  { changes, store: rows, now }: FastifyInstance,
  { log }: Caller,
  told: () => Members | undefined,
  run: (store: Pick<Store, 'importUsers'>, end: () => End) => Promise<boolean>,
): Promise<boolean> {
  const by = { log, by: commandLine }
  const failed: unknown[] = []
  const isWhole = await changes.make(by, 'users.imported', told, async (store, end) => {
    const isWhole = await run(store, end).catch((error) => failed.push(error) === 0)
    const members = told()
    if (members) await rows.addAudit([auditRowOf(by, 'users.imported', members, now())]).catch((e) => failed.push(e))
    return isWhole
  })
  if (failed.length > 0) throw failed[0]
  return isWhole
}

const emptyTarget = ({ onConflict }: Given): Target => {
  const look: Target['look'] = async (rows) => planImport(rows, [], onConflict).outcomes
  return { look, take: look, hash: async () => '', seal: () => [], concurrency: 1 }
}

function createTarget(
  { hashing, secrets, now }: FastifyInstance,
  by: Caller,
  store: Pick<Store, 'importUsers'>,
  { onConflict, isDryRun }: Given,
  end: () => End,
): Target {
  const look: Target['look'] = (rows) => store.importUsers(rows, onConflict)
  // Repeated after an outage, a batch may find itself: that is a conflict only where each one is.
  const repeatedly: typeof patiently = onConflict === 'fail' ? (work) => work() : patiently
  return {
    look,
    take: isDryRun ? look : (rows) => repeatedly(() => store.importUsers(rows, onConflict, end())),
    hash: ({ row, password }) =>
      password === undefined ? hashing.wrap(by, row.passwordHash) : hashing.hash(by, password.normalize('NFC')),
    // Nothing is written, and there may be no secret yet.
    seal: isDryRun ? () => [] : ({ row, totps }) => totps.map((totp) => sealTotp(secrets, row.id, totp, now())),
    concurrency: hashing.concurrency,
  }
}

function sealTotp(
  secrets: FastifyInstance['secrets'],
  userId: string,
  { secret, name = 'Authenticator app', createdAt }: ImportedTotp,
  now: number,
): Totp {
  const id = randomUUID()
  const sealed = secrets.seal(Buffer.from(secret), totpContext(userId, id)).toString('base64url')
  return { kind: 'totp', id, name, createdAt: Math.min(createdAt ?? now, now), secret: sealed, step: 0 }
}

/** Who types the command. */
const callerOf = ({ log }: FastifyInstance): Caller => ({
  ...{ log: log.child({ by: commandLine }), by: commandLine, address: '', userAgent: '', requestId: '' },
  gone: new AbortController().signal,
})

async function estimateOf({ hashing }: FastifyInstance, by: Caller, hashes: number): Promise<string> {
  await hashing.hash(by, 'the first one is slower')
  const startedAt = performance.now()
  await hashing.hash(by, 'this one is timed')
  const seconds = ((performance.now() - startedAt) * hashes) / hashing.concurrency / 1000
  return `Passwords to be hashed: ${count(hashes)}, or fewer; that takes about ${durationOf(seconds)}.`
}

function progressOf(output: Output, all: number): (done: number) => void {
  const startedAt = performance.now()
  return (done) => {
    const perSecond = done / ((performance.now() - startedAt) / 1000)
    const left = durationOf((all - done) / perSecond)
    output.progress(`importing users: ${count(done)} of ${count(all)}, ${count(Math.round(perSecond))}/s, ${left} left`)
  }
}

const count = (n: number) => n.toLocaleString('en-US')
const durationOf = (seconds: number) => (seconds < 120 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`)

interface Result {
  given: Given
  report: Report
  isWhole: boolean
  rows: number
  seconds: number
}

const documentOf = ({ given, report, isWhole, rows, seconds }: Result) => ({
  ...{ from: given.from, dry_run: given.isDryRun, rows, ...report.counts, complete: isWhole },
  notes: Object.fromEntries(report.noted),
  seconds: Math.round(seconds * 10) / 10,
})

function textOf({ given, report, rows, seconds }: Result): string {
  const { made, updated, unchanged, skipped } = report.counts
  const would = given.isDryRun ? ' would be' : ''
  return (
    `${count(rows)} rows of ${given.from}: ${count(made)}${would} made, ${count(updated)} updated, ` +
    `${count(unchanged)} there already, ${count(skipped)} not taken; in ${seconds.toFixed(1)} s`
  )
}

function warningsOf({ given, report, isWhole, rows }: Result): string[] {
  return [
    ...(rows === 0 ? ['There are no users in it.'] : []),
    ...[...report.noted].map(([note, users]) => `${count(users)} ${notes[note]}`),
    ...(given.isDryRun ? [] : report.summary()),
    ...(given.onConflict === 'fail' && !isWhole
      ? ['Stopped: with --on-conflict skip or update the same command goes on']
      : []),
  ]
}

const actionWords = { made: 'would be made', updated: 'would be updated', unchanged: 'is there already' }

/** Tells of each row of a dry run, as it is read: a line, or a row of one JSON document. */
function lineTeller(output: Output) {
  let isFirst = true
  if (output.isJson) output.print('{"rows":[')
  return {
    tell({ file, line, externalId, action, reason }: Line): void {
      if (output.isJson) {
        const row = JSON.stringify({ file, line, external_id: externalId, action, reason })
        output.print(`${isFirst ? ' ' : ','}${row}`)
      } else {
        const words = action === 'skipped' ? `would be skipped: ${reason}` : actionWords[action]
        output.print(`${file === undefined ? '' : `${file} `}line ${line}: ${words}`)
      }
      isFirst = false
    },
    end(summary: object): void {
      if (output.isJson) output.print(`],"summary":${JSON.stringify(summary)}}`)
    },
  }
}
