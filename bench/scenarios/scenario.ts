/* What the scenarios share. They are programs of the repository, and not of the package. */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { bearer, logOut, type Tokens } from '../load.ts'
import { inFlight, quantile, round } from '../meter.ts'
import { endingAll } from '../processes.ts'
import { logInAll, type Server } from '../service.ts'

/** Runs a scenario as the whole program. */
export async function runScenario(scenario: () => Promise<void>): Promise<void> {
  try {
    await endingAll(scenario)
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
  const options = Object.fromEntries(
    Object.entries(defaults).map(([name, value]) => [
      name,
      { type: typeof value === 'boolean' ? ('boolean' as const) : ('string' as const) },
    ]),
  )
  const { values, positionals } = parseArgs({ allowPositionals: true, options })
  const given = Object.entries(values).map(([name, value]) => [
    name,
    typeof defaults[name] === 'number' ? Number(value) : value,
  ])
  return { flags: { ...defaults, ...Object.fromEntries(given) }, positionals }
}

/** Prints results by name: rows as tables, or all as one JSON document. */
export function print(isJson: boolean, results: Record<string, unknown>): void {
  if (isJson) console.log(JSON.stringify(results, null, 2))
  else
    for (const [name, result] of Object.entries(results)) {
      console.log(name)
      console.table(result)
    }
}

/** Reports a step on stderr, so that stdout is the result. */
export const progress = (text: string): void => void process.stderr.write(`${text}\n`)
export const progressOf =
  (rounds: number) =>
  (title: string, number: number): void =>
    progress(`round ${number} of ${rounds}: ${title} …`)

export interface LagRow {
  logoutAt: string
  logouts: number
  /** ms from the answer to a logout to the first refusal; 0 when the refusal came first */
  p50: number
  p99: number
  max: number
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
 */
export async function measureLag(
  logoutAt: string,
  { user, logouts, concurrency }: { user: string; logouts: number; concurrency: number },
  opener: Server,
  closer: Server,
  isRefused: (tokens: Tokens) => Promise<boolean>,
): Promise<LagRow> {
  progress(`how soon a logout is a refusal: ${logoutAt} …`)
  const sessions = await logInAll(opener.origin, Array(logouts).fill(user))
  const lags: number[] = []
  await inFlight(logouts, concurrency, async (n) => {
    const tokens = sessions[n] as Tokens
    if (await isRefused(tokens)) throw new Error('refused before the logout')
    await sleep(Math.random() * pollMs)
    let answeredAt = Number.POSITIVE_INFINITY
    const logout = logOut(closer.origin, tokens).then(() => {
      answeredAt = performance.now()
    })
    const startedAt = performance.now()
    let askedAt = startedAt
    while (!(await isRefused(tokens))) {
      if (askedAt - startedAt > giveUpMs) throw new Error(`not refused after ${giveUpMs} ms`)
      await sleep(1)
      askedAt = performance.now()
    }
    await logout
    lags.push(Math.max(0, askedAt - answeredAt))
  })
  const at = (share: number) => round(quantile(lags, share))
  return { logoutAt, logouts, p50: at(0.5), p99: at(0.99), max: at(1) }
}

/** Whether a service refuses an access token. */
export const refusedBy =
  ({ origin }: Server) =>
  async (tokens: Tokens): Promise<boolean> =>
    (await fetch(`${origin}/protected`, { headers: bearer(tokens) })).status === 401
