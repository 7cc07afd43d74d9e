/* What was acknowledged, what was in doubt, and what turned out to be wrong. */

/** What a request that was never answered had done: all of it, nothing of it; or it cannot be told from outside. */
export type Outcome = 'after' | 'before' | 'either'

export function createLedger() {
  const acknowledged = new Map<string, number>()
  const outcomes = { after: 0, before: 0, either: 0 }
  const wrong: string[] = []
  let moment = 0

  return {
    /** writes that were answered with success, by what they did */
    acknowledged,
    /** requests that were not answered, by what they turned out to have done */
    outcomes,
    /** each thing that should not be, in words */
    wrong,
    /** checks that were made */
    checks: 0,
    /** 503 where nothing had been killed: a machine that is too slow for the time limits */
    unavailable: 0,
    /** starts that a supervisor would have repeated: the database did not answer in time */
    startsRepeated: 0,
    /** of the run: where it is, for `wrong` */
    place: '',

    get writes(): number {
      return [...acknowledged.values()].reduce((sum, count) => sum + count, 0)
    },
    get doubts(): number {
      return outcomes.after + outcomes.before + outcomes.either
    },

    /** A number that rises with each call: what came before what. */
    tick: () => ++moment,
    acknowledge(what: string): void {
      acknowledged.set(what, (acknowledged.get(what) ?? 0) + 1)
    },
    /** Looks at a fact. @param what is true of it @param actual is one of the allowed */
    expect<T>(what: string, actual: T, ...allowed: T[]): boolean {
      this.checks += 1
      const isRight = allowed.includes(actual)
      if (!isRight) wrong.push(`${this.place}: ${what}: expected ${allowed.join(' or ')}, got ${actual}`)
      return isRight
    },
  }
}

export type Ledger = ReturnType<typeof createLedger>
