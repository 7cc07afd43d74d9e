import { readMadeSecret } from '../../plugins/keys/secret-file.ts'
import type { Scope } from '../support/basics.ts'
import { startPostgres } from '../support/postgres.ts'
import { type Campaign, createCampaign } from './campaign.ts'
import { type KindName, killFirstStart, kinds } from './kinds.ts'
import type { Ledger } from './ledger.ts'
import type { Site, StoreName } from './site.ts'

/** What is killed, in which order, after the first start of all. */
export interface Plan {
  store: StoreName
  seed: number
  kinds: KindName[]
  /** `latchkey store check` runs after each so many kills, and at the end */
  checkEvery: number
  /** how much is going on */
  form: 'short' | 'long'
}

/** What came of it. */
export interface Report {
  store: StoreName
  ledger: Ledger
  /** by the title of the kind: kills, and milliseconds until the service was ready again */
  kills: Map<string, { kills: number; readyMs: number[] }>
}

/**
 * Chooses what is killed.
 *
 * @param kills in all, with the first start of all
 * @returns kinds by their shares, in an order by chance
 */
export function planKills(store: StoreName, kills: number, random: () => number): KindName[] {
  const able = Object.entries(kinds).filter(([, kind]) => store === 'postgres' || !('needs' in kind))
  const shares = able.reduce((sum, [, { share }]) => sum + share, 0)
  const plan: KindName[] = []
  for (const [name, kind] of able) {
    const times = name === 'service' ? 0 : Math.floor(((kills - 1) * kind.share) / shares / kind.kills)
    plan.push(...Array<KindName>(times).fill(name as KindName))
  }
  const left = kills - 1 - plan.reduce((sum, name) => sum + kinds[name].kills, 0)
  plan.push(...Array<KindName>(left).fill('service'))
  return plan
    .map((name) => ({ name, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ name }) => name)
}

/** Carries out a plan. @param onKill is called after each of it */
export async function runKills(
  scope: Scope,
  { store, seed, kinds: plan, checkEvery, form }: Plan,
  onKill: (report: Report, killed: number) => void = () => {},
): Promise<Report> {
  const setup = { scope, store, form, ...(store === 'postgres' && { postgres: await startPostgres(scope) }) }
  const campaign: Campaign = await createCampaign(setup, seed)
  const { ledger, site } = campaign
  const report: Report = { store, ledger, kills: new Map() }
  let [killed, checkedAt] = [0, 0]
  function killedBy({ title, kills }: { title: string; kills: number }, readyMs: number[]): void {
    killed += kills
    const of = report.kills.get(title) ?? { kills: 0, readyMs: [] }
    report.kills.set(title, { kills: of.kills + kills, readyMs: [...of.readyMs, ...readyMs] })
    onKill(report, killed)
  }

  killedBy(kinds.firstStart, [await killFirstStart(campaign, site)])
  const secret = secretOf(site)
  for (const name of plan) {
    ledger.place = `${store}, kill ${killed + 1}, ${kinds[name].title}`
    killedBy(kinds[name], await kinds[name].kill(campaign))
    if (killed - checkedAt < checkEvery) continue
    checkedAt = killed
    await campaign.checkStore(site.settings)
  }
  ledger.place = `${store}, at the end`
  await campaign.compare({ all: true })
  ledger.expect('a secret is made once', secretOf(site), secret)
  await campaign.checkStore(site.settings)
  await site.kill()
  return report
}

/** The secret that was made beside an embedded store. */
const secretOf = ({ settings: { AUTH_DATA_DIR: dir, AUTH_SECRET: given } }: Site) =>
  given ?? readMadeSecret(dir as string)
