import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { table } from '../../cli/table.ts'
import type { Scope } from '../support/basics.ts'
import { pseudorandom } from '../support/random.ts'
import { type Plan, planKills, type Report, runKills } from './run.ts'
import type { StoreName } from './site.ts'

/*
 * `npm run test:crash -- [--kills N] [--store lmdb|postgres|both] [--seed N] [--check-every N]`: kills the service, and
 * PostgreSQL, with kill -9 under load, and compares what is left with what was acknowledged.
 */

const usage = 'npm run test:crash -- [--kills N] [--store lmdb|postgres|both] [--seed N] [--check-every N]'

function readOptions() {
  const { values } = parseArgs({
    args: process.argv.slice(3),
    options: {
      kills: { type: 'string', default: '20' },
      store: { type: 'string', default: 'both' },
      seed: { type: 'string', default: String(randomInt(2 ** 31)) },
      'check-every': { type: 'string', default: '10' },
    },
  })
  const number = (name: 'kills' | 'seed' | 'check-every') => {
    const value = Number(values[name])
    if (!Number.isInteger(value) || value < (name === 'seed' ? 0 : 1))
      throw new Error(`--${name}: expected a whole number, got ${values[name]}`)
    return value
  }
  const stores: StoreName[] = (['lmdb', 'postgres'] as const).filter((name) => [name, 'both'].includes(values.store))
  if (stores.length === 0) throw new Error(`--store: expected lmdb, postgres or both, got ${values.store}`)
  return { stores, kills: number('kills'), seed: number('seed'), checkEvery: number('check-every') }
}

const columns = process.stdout.columns ?? 120
const count = (number: number) => number.toLocaleString('en-US')
const ms = (number: number | undefined) => (number === undefined ? '' : `${count(Math.round(number))} ms`)
const sorted = (numbers: number[]) => numbers.toSorted((a, b) => a - b)
const median = (numbers: number[]) => sorted(numbers)[Math.floor(numbers.length / 2)]

const ends: (() => unknown)[] = []
const scope = { teardown: (end: () => unknown) => void ends.unshift(end) } as Scope
async function endAll(): Promise<void> {
  for (let end = ends.shift(); end; end = ends.shift()) await end()
}

/** One line that is written over on a terminal; elsewhere a line now and then. */
function progress({ store, ledger }: Report, killed: number, kills: number): void {
  const line =
    `${store}: ${killed} of ${kills} kills, ${count(ledger.writes)} writes acknowledged, ` +
    `${count(ledger.doubts)} in doubt, ${count(ledger.checks)} checks, ${count(ledger.wrong.length)} wrong`
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`)
  else if (killed % 10 < 3 || ledger.wrong.length > 0) process.stderr.write(`${line}\n`)
}

function print({ store, ledger, kills }: Report, seconds: number): void {
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
  const rows = [...kills].map(([title, { kills, readyMs }]) => [
    title,
    kills,
    ms(median(readyMs)),
    ms(sorted(readyMs).at(-1)),
  ])
  const total = [...kills.values()].reduce((sum, { kills }) => sum + kills, 0)
  console.log(`\n${store}: ${total} kills in ${count(Math.round(seconds))} s`)
  console.log(table(['killed', 'kills', 'ready again: median', 'worst'], rows, columns))
  console.log()
  console.log(table(['write', 'acknowledged'], [...ledger.acknowledged, ['all', ledger.writes]], columns))
  const { after, before, either } = ledger.outcomes
  console.log(
    `\n${count(ledger.doubts)} in doubt: ${count(after)} had been done, ${count(before)} had not, ` +
      `of ${count(either)} it makes no difference.`,
  )
  const { unavailable, startsRepeated } = ledger
  if (unavailable > 0) console.log(`${count(unavailable)} requests were answered 503 and sent again.`)
  if (startsRepeated > 0)
    console.log(`${count(startsRepeated)} starts were repeated: PostgreSQL did not answer in time.`)
  console.log(`${count(ledger.checks)} checks, ${count(ledger.wrong.length)} wrong.`)
  for (const line of ledger.wrong) console.log(`wrong: ${line}`)
}

/** What has come of the store at hand, for whoever interrupts. */
let printSoFar = () => {}

async function main(): Promise<number> {
  const { stores, kills, seed, checkEvery } = readOptions()
  console.log(`seed ${seed}`)
  let wrong = 0
  for (const store of stores) {
    const startedAt = performance.now()
    const seconds = () => (performance.now() - startedAt) / 1000
    const plan: Plan = { store, seed, checkEvery, form: 'long', kinds: planKills(store, kills, pseudorandom(seed)) }
    const report = await runKills(scope, plan, (report, killed) => {
      progress(report, killed, kills)
      printSoFar = () => print(report, seconds())
    })
    print(report, seconds())
    wrong += report.ledger.wrong.length
  }
  console.log(wrong === 0 ? '\nNothing that was acknowledged is lost.' : `\n${wrong} wrong; seed ${seed}`)
  return wrong === 0 ? 0 : 1
}

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  process.once(signal, () => {
    printSoFar()
    void endAll().finally(() => process.exit(code))
  })
}
main()
  .catch((error: NodeJS.ErrnoException) => {
    const isUsage = error.code?.startsWith('ERR_PARSE_ARGS') || error.message.startsWith('--')
    console.error(isUsage ? `${error.message}\n${usage}` : error)
    return isUsage ? 2 : 1
  })
  .then(async (code) => {
    await endAll()
    process.exit(code)
  })
