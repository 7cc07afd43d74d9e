/* Services in variants, on a store each, measured in turn and compared with the first one, round by round. */
import { bearerLoad, createLoader, type Load, loginLoad, refreshLoad } from '../load.ts'
import { median, round } from '../meter.ts'
import { makeDir } from '../processes.ts'
import { type Case, errorsOf, inRounds, ratios } from '../rounds.ts'
import { benchSettings, type Service, startService } from '../service.ts'
import { progress, progressOf } from './scenario.ts'

export interface Variant {
  name: string
  settings?: Record<string, string>
  /** path of its start.cjs; that of this build when not given */
  program?: string
}

const connections = 32
const loadsOf = ({ users, sessions }: Service): Record<string, Load> => ({
  'GET /protected': bearerLoad('/protected', sessions),
  refresh: refreshLoad(sessions),
  login: loginLoad(users),
})

/**
 * Prints medians, and the ratio of the rates to the first variant with its range.
 *
 * @param seconds of each measurement
 */
export async function compare(variants: Variant[], rounds: number, seconds: number): Promise<void> {
  const generate = createLoader(progress)
  const dir = makeDir()
  const cases = new Map<string, Case[]>()
  for (const [index, { name, settings, program }] of variants.entries()) {
    const all = { ...benchSettings, AUTH_THROTTLE: 'off', ...settings }
    const service = await startService(dir, String(index), all, connections, program)
    for (const [what, load] of Object.entries(loadsOf(service))) {
      const one: Case = { title: `${what}, ${name}`, run: (time) => generate(`${what}, ${name}`, service, load, time) }
      cases.set(what, [...(cases.get(what) ?? []), one])
    }
  }
  const series = await inRounds([...cases.values()].flat(), rounds, seconds, progressOf(rounds))
  const rows = [...cases.values()].flatMap((group) =>
    group.map((one) => {
      const measured = series.get(one) ?? []
      if (errorsOf(measured) > 0) throw new Error(`${one.title}: ${measured.find(({ wrong }) => wrong)?.wrong}`)
      const ofFirst = ratios(measured, series.get(group[0] as Case) ?? [])
      return {
        what: one.title,
        perSecond: round(median(measured.map(({ perSecond }) => perSecond))),
        p99Ms: round(median(measured.map(({ p99Ms }) => p99Ms))),
        cpuUs: round(median(measured.map(({ cpuUs }) => cpuUs ?? Number.NaN))),
        ofFirst: round(median(ofFirst)),
        from: round(Math.min(...ofFirst), 2),
        to: round(Math.max(...ofFirst), 2),
      }
    }),
  )
  console.table(rows)
}
