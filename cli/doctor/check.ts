/** What a check comes to. Only `warning` and `failed` count for the exit code. */
export type Verdict = 'ok' | 'warning' | 'failed' | 'skipped'

/** What a check has found. */
export interface Found {
  verdict: Verdict
  /** what was seen, in words; never a secret */
  seen: string
  /** what to do about it */
  advice?: string
  /** what to change: a setting of ours, of the database, or a file */
  setting?: string
}

/** One line of the report. */
export interface Line extends Found {
  id: string
}

/** A thing that is looked at. `docs/doctor.md` has a row for each id. */
export interface Check<Facts> {
  id: string
  /** @returns what was found; several where there are several things to change */
  find(facts: Facts): Found | Found[] | Promise<Found | Found[]>
}

export const ok = (seen: string, advice?: string): Found => ({
  verdict: 'ok',
  seen,
  ...(advice !== undefined && { advice }),
})
export const skipped = (seen: string): Found => ({ verdict: 'skipped', seen })
export const warning = (seen: string, setting: string, advice: string): Found => ({
  verdict: 'warning',
  seen,
  setting,
  advice,
})
export const failed = (seen: string, setting: string, advice: string): Found => ({
  verdict: 'failed',
  seen,
  setting,
  advice,
})

/** Something that a check needs cannot be known here: the check is skipped, and the message says why. */
export class NotKnown extends Error {}

/** Waits for what another check reports on. @throws {NotKnown} where that failed */
export async function needed<T>(fact: T | Promise<T>, id: string): Promise<T> {
  try {
    return await fact
  } catch (error) {
    throw error instanceof NotKnown ? error : new NotKnown(`not looked at, because of ${id}`)
  }
}

/** Longest time for one check, and for all of them. What asks others gives up sooner by itself. */
const limits = { checkMs: 4_000, totalMs: 8_500 }

/**
 * Runs checks one after the other, each for a bounded time.
 *
 * @param onCheck is told of each before it runs
 */
export async function runChecks<Facts>(
  checks: Check<Facts>[],
  facts: Facts,
  onCheck: (id: string) => void = () => {},
  { checkMs, totalMs } = limits,
): Promise<Line[]> {
  const startedAt = performance.now()
  const lines: Line[] = []
  for (const { id, find } of checks) {
    onCheck(id)
    const leftMs = Math.min(checkMs, totalMs - (performance.now() - startedAt))
    const found = await (leftMs < 1
      ? skipped('the checks before it took too long')
      : bounded(async () => find(facts), leftMs))
    for (const one of Array.isArray(found) ? found : [found]) lines.push({ id, ...one })
  }
  return lines
}

async function bounded(work: () => Promise<Found | Found[]>, ms: number): Promise<Found | Found[]> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<Found>((resolve) => {
    timer = setTimeout(() => resolve({ verdict: 'failed', seen: `no result within ${span(ms)}` }), ms)
  })
  try {
    return await Promise.race([work(), late])
  } catch (error) {
    if (error instanceof NotKnown) return skipped(error.message)
    return { verdict: 'failed', seen: `it could not be looked at: ${(error as Error).message.replace(/\s+/g, ' ')}` }
  } finally {
    clearTimeout(timer)
  }
}

/** The middle one of some measurements. */
export const median = (values: number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number

/** `1 file`, `2 files` */
export const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`

/** A number of bytes for people. */
export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(n, 1)) / 10))
  return `${(n / 1024 ** power).toFixed(power > 0 && n / 1024 ** power < 10 ? 1 : 0)} ${units[power]}`
}

/** A length of time for people. */
export function span(ms: number): string {
  const [unit, per] = ([
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['min', 60_000],
    ['s', 1000],
  ].find(([, per]) => Math.abs(ms) >= 2 * Number(per)) ?? ['ms', 1]) as [string, number]
  return `${Math.round(ms / per)} ${unit}`
}
