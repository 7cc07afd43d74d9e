import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { migrations } from '../../stores/postgres/migrations.ts'
import { newDir, password, until } from '../support/basics.ts'
import { startNetwork } from '../support/network.ts'
import type { TestPostgres } from '../support/postgres.ts'
import { root } from '../support/program.ts'
import type { Campaign } from './campaign.ts'
import { createSite, processes, type Site } from './site.ts'

/* Each way to kill. What is killed is started again as anybody would, and nothing else is done. */

/** @returns milliseconds until it was ready again, for each kill */
export type Kind = (campaign: Campaign) => Promise<number[]>

/** The service, under load. */
const service: Kind = async ({ site, underLoad, compare }) => {
  await underLoad(site.kill)
  const readyMs = await site.start()
  await compare()
  return [readyMs]
}

/** The service under load, and again while it starts. */
const start: Kind = async ({ site, random, underLoad, compare }) => {
  await underLoad(site.kill)
  await site.launch()
  await sleep(random() * site.startMs)
  await site.kill()
  const readyMs = await site.start()
  await compare()
  return [readyMs]
}

/** A first start, on nothing. @returns milliseconds until the next, which goes on as if it were the first, was ready */
export async function killFirstStart({ random, site: { startMs } }: Campaign, site: Site): Promise<number> {
  await site.launch()
  await sleep(random() * startMs)
  await site.kill()
  return site.start()
}

const firstStart: Kind = async (campaign) => {
  const { scope, newPlace, ledger } = campaign
  const site = createSite(scope, await newDir(scope), await newPlace(), ledger)
  const readyMs = await killFirstStart(campaign, site)
  await comesUp(campaign, site)
  return [readyMs]
}

/** Asks a service that has to have come up whole, and kills it. */
async function comesUp({ ledger, checkStore }: Campaign, site: Site): Promise<void> {
  const form = { username: 'newcomer', password }
  ledger.expect('a newcomer signs up', (await site.call('/signup', { json: form })).status, 201)
  ledger.expect('and logs in', (await site.call('/token', { form })).status, 200)
  await site.kill()
  await checkStore(site.settings)
}

const workersAtMostMs = 30_000

/** One worker of two, twice; then the primary, behind which no worker stays. */
const workers: Kind = async (campaign) => {
  const { site, ledger, random, underLoad, compare } = campaign
  await site.kill()
  await site.start({ AUTH_WORKERS: '2' })
  const children = () => {
    const primary = site.running?.child.pid
    return processes().flatMap(({ pid, parent }) => (parent === primary ? [pid] : []))
  }
  const times: number[] = []
  for (let round = 1; round <= 2; round++) {
    const victims = children()
    const victim = victims[Math.floor(random() * victims.length)] as number
    const strike = async () => {
      const started = site.running?.output.stdout.match(/worker\.started/g)?.length ?? 0
      process.kill(victim, 'SIGKILL')
      const isReplaced = async () => (site.running?.output.stdout.match(/worker\.started/g)?.length ?? 0) > started
      times.push(await until(isReplaced, workersAtMostMs))
    }
    await underLoad(strike, { goesOn: true })
    ledger.expect('workers', children().length, 2)
    await compare({ isBehind: true })
  }
  const left = children()
  await underLoad(site.kill)
  const isAnyLeft = () => processes().some(({ pid }) => left.includes(pid))
  await until(async () => !isAnyLeft(), workersAtMostMs)
  ledger.expect('a worker stays behind', isAnyLeft(), false)
  times.push(await site.start({ AUTH_WORKERS: '1' }))
  await compare()
  return times
}

const fixture = (file: string) => readFileSync(join(root, 'test/stores/fixtures', file), 'utf8')
const oldRelease = '0.1.0'
const oldVersions = [...fixture(`release-${oldRelease}.sql`).matchAll(/\(version, applied_at\) VALUES \('(\d+)'/g)]
/** All that brings the schema up to date, from then. */
const steps = migrations
  .filter(({ version }) => !oldVersions.some(([, known]) => Number(known) === version))
  .flatMap(({ version, statements }) => [`(version, applied_at) VALUES (${version}`, ...statements, 'COMMIT'])
/** Enough of a statement to know it by. */
const knownBy = 60

/** The first start on the data of an old release, at one of the statements that bring the schema up to date. */
const migration: Kind = async (campaign) => {
  const { scope, random, ledger, newPlace } = campaign
  const postgres = campaign.postgres as TestPostgres
  const { DATABASE_URL: url = '' } = await newPlace()
  await postgres.execute(fixture(`release-${oldRelease}.sql`), url)
  const { tokens } = JSON.parse(fixture(`release-${oldRelease}.json`))
  const network = await startNetwork(scope, postgres.port)
  const site = createSite(
    scope,
    await newDir(scope),
    {
      AUTH_SECRET: 'the secret that the fixtures were made with',
      DATABASE_URL: network.through(url),
      // Its sessions are as old as the release.
      AUTH_REFRESH_IDLE_TTL: '36500d',
      AUTH_REFRESH_MAX_TTL: '36500d',
    },
    ledger,
  )
  const at = steps[Math.floor(random() * steps.length)] as string
  const reached = network.breakAt(at.slice(0, knownBy), random() < 0.5 ? 'before' : 'after')
  const { ended } = await site.launch()
  await Promise.race([reached, ended])
  await site.kill()
  const readyMs = await site.start()
  const form = { username: 'ada', password }
  const present = async (token: string) => (await site.call('/refresh', { json: { refresh_token: token } })).status
  ledger.expect('who signed up then logs in', (await site.call('/token', { form })).status, 200)
  ledger.expect('a session of then goes on', await present(tokens.goodRefresh), 200)
  ledger.expect('a token spent then is spent', await present(tokens.spentRefresh), 400)
  await comesUp(campaign, site)
  return [readyMs]
}

/** PostgreSQL itself, under load. The service stays, and heals by itself. */
const database: Kind = async ({ site, postgres, underLoad, compare }) => {
  let readyMs = 0
  const strike = async () => {
    const killedAt = performance.now()
    await postgres?.kill()
    await postgres?.start()
    await site.ready()
    readyMs = performance.now() - killedAt
  }
  await underLoad(strike, { goesOn: true })
  await compare({ isBehind: true })
  return [readyMs]
}

/** The primary, of which a synchronous standby is promoted. */
const failover: Kind = async (campaign) => {
  const { site, underLoad, compare } = campaign
  const primary = campaign.postgres as TestPostgres
  const standby = await primary.startStandby()
  await primary.execute(`ALTER SYSTEM SET synchronous_standby_names = '*'`)
  await primary.execute('SELECT pg_reload_conf()')
  const isSynchronous = `SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'`
  await until(async () => (await primary.execute(isSynchronous)).length > 0)
  await site.kill()
  const hosts = `@127.0.0.1:${primary.port},127.0.0.1:${standby.port}/`
  await site.start({ DATABASE_URL: (site.settings['DATABASE_URL'] as string).replace(/@[^/]+\//, hosts) })
  let readyMs = 0
  const strike = async () => {
    const killedAt = performance.now()
    await primary.kill()
    await standby.execute('SELECT pg_promote()')
    campaign.postgres = standby
    await site.ready()
    readyMs = performance.now() - killedAt
  }
  await underLoad(strike, { goesOn: true })
  await compare({ isBehind: true })
  return [readyMs]
}

/** By name, with how many it kills. */
export const kinds = {
  service: { title: 'the service, under load', kills: 1, share: 40, kill: service },
  start: { title: 'and again while it starts', kills: 2, share: 10, kill: start },
  firstStart: { title: 'a first start', kills: 1, share: 10, kill: firstStart },
  workers: { title: 'workers, and their primary', kills: 3, share: 15, kill: workers },
  migration: { title: 'a migration of the schema', kills: 1, share: 10, kill: migration, needs: 'postgres' },
  database: { title: 'PostgreSQL, under load', kills: 1, share: 10, kill: database, needs: 'postgres' },
  failover: { title: 'a primary with a synchronous standby', kills: 1, share: 5, kill: failover, needs: 'postgres' },
} satisfies Record<string, { title: string; kills: number; share: number; kill: Kind; needs?: 'postgres' }>

export type KindName = keyof typeof kinds
