/* What the scenarios share. They are programs of the repository, and not of the package. */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { logOut, type Tokens } from '../load.ts'
import { inFlight, quantile, round } from '../meter.ts'
import { endingAll } from '../processes.ts'
import { type Case, inRounds, medianOf, medianRatio } from '../rounds.ts'
import { logInAll, type Server } from '../service.ts'

/** Runs a scenario as the whole program, and prints its results by name: tables, or one document with `--json`. */
export async function runScenario(scenario: () => Promise<Record<string, unknown>>): Promise<void> {
  try {
    const results = await endingAll(scenario)
    if (process.argv.includes('--json')) console.log(JSON.stringify(results, null, 2))
    else
      for (const [name, result] of Object.entries(results)) {
        console.log(name)
        console.table(result)
      }
  } catch (error) {
    console.error(error)
    process.exitCode = 1
  }
  process.exit()
}

/** Reads the command line: each `--name` has a default, of whose type it is. */
export function readFlags<Flags extends Record<string, string | number | boolean>>(
  defaults: Flags,
): { flags: Flags; positionals: string[] } {
  const typeOf = (value: unknown) => (typeof value === 'boolean' ? ('boolean' as const) : ('string' as const))
  const options = Object.entries({ ...defaults, json: false }).map(([name, value]) => [name, { type: typeOf(value) }])
  const { values, positionals } = parseArgs({ allowPositionals: true, options: Object.fromEntries(options) })
  const given = Object.entries(values).map(([name, value]) => [
    name,
    typeof defaults[name] === 'number' ? Number(value) : value,
  ])
  return { flags: { ...defaults, ...Object.fromEntries(given) }, positionals }
}

/** Reports a step on stderr, so that stdout is the result. */
export const progress = (text: string): void => void process.stderr.write(`${text}\n`)

/**
 * Measures in rounds; the exit code is 1 when there were errors.
 *
 * @returns medians, and the ratios of the rates to those of the first and the second case of a group
 */
export async function measureGroups(groups: Case[][], rounds: number, seconds: number) {
  const series = await inRounds(groups.flat(), rounds, seconds, (title, number) =>
    progress(`round ${number} of ${rounds}: ${title} …`),
  )
  return groups.flatMap((group) => {
    const [first = [], second = first] = group.map((one) => series.get(one) ?? [])
    return group.map((one) => {
      const measured = series.get(one) ?? []
      const { perSecond, p50Ms, p99Ms, errors, cpuUs = Number.NaN } = medianOf(measured)
      if (errors > 0) process.exitCode = 1
      return {
        what: one.title,
        ...{ perSecond: round(perSecond), p50Ms: round(p50Ms), p99Ms: round(p99Ms), cpuUs: round(cpuUs) },
        ofFirst: round(medianRatio(measured, first), 2),
        ofSecond: round(medianRatio(measured, second), 2),
        errors,
      }
    })
  })
}

const giveUpMs = 10_000
/** The service polls for revocations this often; logouts are spread over it. */
const pollMs = 400

/**
 * Logs sessions out, and asks elsewhere until their access tokens are refused.
 *
 * @param opener logs the sessions in
 * @param closer is sent the logouts
 * @param isRefused asks whoever has to hear of it
 * @returns ms from the answer to a logout to the first refusal; 0 when the refusal came first
 */
export async function measureLag(
  logoutAt: string,
  { user, logouts, concurrency }: { user: string; logouts: number; concurrency: number },
  opener: Server,
  closer: Server,
  isRefused: (tokens: Tokens) => Promise<boolean>,
) {
  progress(`how soon a logout is a refusal: ${logoutAt} …`)
  const sessions = await logInAll(opener.origin, Array(logouts).fill(user))
  const lags = await inFlight(logouts, concurrency, async (n) => {
    const tokens = sessions[n] as Tokens
    if (await isRefused(tokens)) throw new Error('refused before the logout')
    await sleep(Math.random() * pollMs)
    const startedAt = performance.now()
    const answered = logOut(closer.origin, tokens).then(() => performance.now())
    let askedAt = startedAt
    while (!(await isRefused(tokens))) {
      if (askedAt - startedAt > giveUpMs) throw new Error(`not refused after ${giveUpMs} ms`)
      await sleep(1)
      askedAt = performance.now()
    }
    return Math.max(0, askedAt - (await answered))
  })
  const at = (share: number) => round(quantile(lags, share))
  return { logoutAt, logouts, p50: at(0.5), p99: at(0.99), max: at(1) }
}
