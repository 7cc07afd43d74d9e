import type { Fields } from './columns.ts'

/**
 * A statement of the PostgreSQL store. Those of a table are in its file in `tables/`; the lists of columns come from
 * `columns.ts`, all else is written out. What each of them keeps to:
 *
 * - The SQL stays inside what CockroachDB, YugabyteDB and Citus run as well: no advisory locks, no triggers, no
 *   functions, no sequences, and never two changes of one table in one statement, which CockroachDB refuses.
 *   `test/stores/postgres.test.ts` holds it to that.
 * - Each is a transaction of its own and one round trip. At READ COMMITTED all parts of a statement see one snapshot,
 *   but an UPDATE or DELETE that had to wait for a row looks at that row anew: so what can race is repeated in the
 *   WHERE of the row that changes, and what a statement says of a row that it did not change may be as old as its
 *   start.
 * - A value in a SELECT list has its type written out: CockroachDB does not take it from the column that it ends up in.
 * - Rows are locked in one order, user or client, factors, browser session, sessions by their ids, head of the
 *   revocations, heads of the audit rows, so that no two statements wait for each other.
 */
export interface Statement {
  /** prepared once a connection under this name; without one it is planned anew each time, with the values at hand */
  readonly name?: string
  readonly text: string
}

/** Statements that are prepared once a connection, by name. */
export const prepare = <Name extends string>(texts: Record<Name, string>): Record<Name, Statement> =>
  statementsOf(texts, (name, text) => ({ name, text }))

/** Statements that are planned anew each time: a plan for any LIMIT and any position would read a whole large table. */
export const plan = <Name extends string>(texts: Record<Name, string>): Record<Name, Statement> =>
  statementsOf(texts, (_, text) => ({ text }))

function statementsOf<Name extends string>(
  texts: Record<Name, string>,
  make: (name: string, text: string) => Statement,
): Record<Name, Statement> {
  const made = Object.entries<string>(texts).map(([name, text]) => [name, make(name, text)])
  return Object.fromEntries(made)
}

export type Run = <Row>(statement: Statement, ...values: unknown[]) => Promise<Row[]>

/** What the methods of a table run its statements by. */
export type Runs = ReturnType<typeof createRuns>

/** @param query on any connection, or on that of a transaction */
export function createRuns(query: <Row>(statement: Statement, values: unknown[]) => Promise<Row[]>) {
  const run: Run = <Row>(statement: Statement, ...values: unknown[]) => query<Row>(statement, values)
  return {
    run,
    runForOne: async <Row = Fields>(statement: Statement, ...values: unknown[]) =>
      (await run<Row>(statement, ...values))[0],
    hadEffect: async (statement: Statement, ...values: unknown[]) => (await run(statement, ...values)).length > 0,
  }
}
