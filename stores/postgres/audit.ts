import { type Audit, type AuditRow, firstAuditIdOf, newAuditId } from '../../domain/audit.ts'
import { isUuid } from '../../domain/ids.ts'
import { futureFrom } from '../../domain/time.ts'
import { type AuditIndex, listAudit, type ReadAudit } from '../audit.ts'
import type { Store } from '../store.ts'
import { clockOf, type SweepStep } from '../sweeping.ts'
import { auditLines, type Statement, statements } from './sql.ts'
import { type Fields, firstUuid, tables } from './tables.ts'

type Run = <Row>(statement: Statement, ...values: unknown[]) => Promise<Row[]>

const { audit } = tables

/** By the user, so that the events of one are in order; ids end with random digits. */
const lineOf = ({ user }: AuditRow) => (user === undefined ? 0 : Number.parseInt(user.slice(-2), 16) % auditLines)
const values = (rows: AuditRow[]) => [...audit.arrays(rows), rows.map(lineOf), rows.length]
const noRows = values([])

/** The values of `auditing` in `sql.ts`. @param result what the change resolves with, where it has an effect */
export const toldValues = <Result>(audit: Audit<Result> | undefined, result: Result): unknown[] =>
  audit ? values(audit(result)) : noRows

const pages: Record<AuditIndex, Statement> = {
  user: statements.auditPageOfUser,
  session: statements.auditPageOfSession,
  client: statements.auditPageOfClient,
}

/** The part of the PostgreSQL store that keeps what happened. */
export function createPostgresAudit(run: Run) {
  const read: ReadAudit = async ({ before, from, limit }, of) => {
    if (of && of.index !== 'client' && !isUuid(of.value)) return []
    const range = [before, from, limit]
    const rows = await (of
      ? run<Fields>(pages[of.index], ...range, of.value)
      : run<Fields>(statements.auditPage, ...range))
    return rows.map(audit.read)
  }

  const methods: Pick<Store, 'addAudit' | 'auditSince' | 'auditEnd' | 'listAudit' | 'eraseAudit' | 'removeAudit'> = {
    addAudit: async (rows) => void (await run(statements.addAudit, ...values(rows))),
    async auditSince(cursor, limit) {
      const positions = readCursor(cursor)
      const ofEachLine = Math.max(1, Math.floor(limit / auditLines))
      const found = await run<Fields & { line: number; number: number }>(
        statements.auditSince,
        ...positions,
        ofEachLine,
      )
      const counts = Array<number>(auditLines).fill(0)
      for (const { line, number } of found) {
        positions[line] = Math.max(positions[line] as number, number)
        counts[line] = (counts[line] as number) + 1
      }
      found.sort((a, b) => a.number - b.number)
      return { rows: found.map(audit.read), cursor: writeCursor(positions), more: counts.includes(ofEachLine) }
    },
    async auditEnd() {
      const positions = readCursor(undefined)
      for (const { line, number } of await run<{ line: number; number: number }>(statements.auditHeads))
        positions[line] = number
      return writeCursor(positions)
    },
    listAudit: (filter, page) => listAudit(read, filter, page),
    async eraseAudit({ settledBefore, limit, cursor = firstUuid }) {
      const [erasure = firstUuid, after] = cursor.split('/')
      const [due] = await run<{ id: string; user_id: string | null; at: number }>(
        statements.nextErasure,
        erasure,
        after !== undefined,
      )
      if (!due) return undefined
      const begin = due.id === erasure && after !== undefined ? after : firstUuid
      const [last] = await run<{ id: string; looked: number }>(statements.eraseAudit, due.user_id, begin, limit)
      if (last?.looked === limit) return `${due.id}/${last.id}`
      if (due.at < settledBefore) await run(statements.endErasure, due.id)
      return due.id
    },
    removeAudit: async (id) => void (isUuid(id) && (await run(statements.removeAudit, id))),
  }
  return {
    methods,
    /** Removes the oldest rows, and gives those of a clock that was ahead the time of now. */
    async sweep(step: SweepStep) {
      const { auditBefore = 0, limit } = step
      const ahead = await run<{ id: string }>(
        statements.findAuditAhead,
        firstAuditIdOf(futureFrom(clockOf(step)) + 1),
        limit,
      )
      if (ahead.length > 0) {
        const ids = ahead.map(({ id }) => id).reverse()
        await run(
          statements.putAuditRight,
          ids,
          ids.map(() => newAuditId(clockOf(step))),
          clockOf(step),
        )
      }
      const removed = await run(statements.sweepAudit, firstAuditIdOf(auditBefore), limit)
      return { removed: removed.length, looked: Math.max(removed.length, ahead.length) }
    },
  }
}

/** A cursor is the last number seen in each line. Any other text stands before the first. */
function readCursor(cursor = ''): number[] {
  const positions = cursor
    .split('.')
    .map((text) => (/^[0-9a-z]{1,11}$/.test(text) ? Number.parseInt(text, 36) : Number.NaN))
  return positions.length === auditLines && positions.every(Number.isSafeInteger)
    ? positions
    : Array(auditLines).fill(0)
}

const writeCursor = (positions: number[]) => positions.map((position) => position.toString(36)).join('.')
