import type { Factor } from '../../domain/factor.ts'
import { type ImportOutcome, type ImportRow, importConflicts } from '../../domain/user-import.ts'
import { importedAtOnce } from '../../stores/tables/users.ts'
import type { CheckedRow, Place, Survey } from './read.ts'
import type { Report } from './report.ts'
import type { ReadyRow } from './to-row.ts'

/** What rows are taken into. */
export interface Target {
  /** What would become of rows: nothing is written. */
  look(rows: ImportRow[]): Promise<ImportOutcome[]>
  take(rows: ImportRow[]): Promise<ImportOutcome[]>
  /** Hashes what is to be hashed of a row. */
  hash(ready: ReadyRow): Promise<string>
  /** Seals the secrets of the authenticator apps of a row. */
  seal(ready: ReadyRow): Factor[]
  /** hashes at once */
  concurrency: number
}

interface Work {
  rows: AsyncIterable<CheckedRow>
  isDouble: Survey['isDouble']
  target: Target
  report: Report
  /** whether the first row that is there already ends it, before its batch is written */
  stopsAtConflict: boolean
  interrupted: AbortSignal
  onRows(rows: number): void
}

const doubleReason = 'another user of the file has the same name or verified address'
const leftReason = 'another row of its batch is in conflict'

/** In the place of a hash that is not made yet: unlike any that is stored. */
const notHashedYet = '$not-hashed-yet$'

/**
 * Takes rows in batches.
 *
 * @returns whether all of them were come to: not after an interruption, or a conflict that stops it
 */
export async function takeRows(work: Work): Promise<boolean> {
  const { target, report, isDouble, stopsAtConflict, interrupted } = work
  /** in the order of the file, with what is not taken */
  let batch: CheckedRow[] = []
  let ids = new Set<string>()
  let read = 0

  /** @returns whether to go on */
  async function takeBatch(): Promise<boolean> {
    const rows = batch
    batch = []
    ids = new Set()
    const ready = rows.flatMap((each) => ('ready' in each && !isDouble(each.ready.row) ? [each.ready] : []))
    const stops = stopsAtConflict && rows.some((each) => 'ready' in each && isDouble(each.ready.row))
    const outcomes = stops
      ? ready.map((): ImportOutcome => ({ outcome: 'left' }))
      : ready.length > 0
        ? await target.take(sealed(ready, await hashed(ready, target), target))
        : []
    const left = outcomes.values()
    for (const each of rows) {
      const place: Place = each.file === undefined ? { line: each.line } : { file: each.file, line: each.line }
      if (!('ready' in each)) {
        report.add({ ...place, externalId: each.externalId, action: 'skipped', reason: each.reason })
        continue
      }
      const { row, notes } = each.ready
      const outcome = isDouble(row) ? doubleReason : reasonOf(left.next().value as ImportOutcome)
      const { externalId } = row
      if (typeof outcome === 'string') report.add({ ...place, externalId, action: 'skipped', reason: outcome })
      else {
        report.add({ ...place, externalId, action: outcome.outcome })
        if (outcome.outcome !== 'unchanged') for (const note of notes) report.note(note)
      }
    }
    read += rows.length
    work.onRows(read)
    return !stops && !(stopsAtConflict && outcomes.some(({ outcome }) => outcome === 'refused'))
  }

  for await (const each of work.rows) {
    if (interrupted.aborted) return false
    if ('ready' in each) {
      const { source, externalId } = each.ready.row
      const id = `${source} ${externalId}`
      // A row of a user who is in the batch already comes after it.
      if (ids.has(id) && !(await takeBatch())) return false
      ids.add(id)
    }
    batch.push(each)
    if (batch.length === importedAtOnce && !(await takeBatch())) return false
  }
  return takeBatch()
}

/** Why a row is not taken, or what became of it. */
function reasonOf(outcome: ImportOutcome): string | Exclude<ImportOutcome, { outcome: 'refused' | 'left' }> {
  if (outcome.outcome === 'refused') return importConflicts[outcome.conflict]
  return outcome.outcome === 'left' ? leftReason : outcome
}

/** The rows with their second factors. @param rows of what is ready, in its order */
const sealed = (ready: ReadyRow[], rows: ImportRow[], { seal }: Target): ImportRow[] =>
  rows.map((row, i) => {
    const each = ready[i] as ReadyRow
    return each.totps.length > 0 ? { ...row, factors: seal(each) } : row
  })

/** The rows with what had to be hashed, which is not done for those that are there already. */
async function hashed(ready: ReadyRow[], { look, hash, concurrency }: Target): Promise<ImportRow[]> {
  const due = ready.filter(({ password, isToBeWrapped }) => password !== undefined || isToBeWrapped)
  const rows = new Map(ready.map((each) => [each, each.row]))
  if (due.length === 0) return [...rows.values()]
  const isDue = new Set(due)
  const outcomes = await look(
    ready.map((each) => (isDue.has(each) ? { ...each.row, passwordHash: notHashedYet } : each.row)),
  )
  const wanted = ready.filter((each, i) => isDue.has(each) && ['made', 'updated'].includes(outcomes[i]?.outcome ?? ''))
  const queue = wanted.values()
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      for (const each of queue) rows.set(each, { ...each.row, passwordHash: await hash(each) })
    }),
  )
  return [...rows.values()]
}
