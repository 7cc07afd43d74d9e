import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { checkFile, lmdbFile } from '../../stores/lmdb/file.ts'
import { openStore } from '../../stores/open.ts'
import { newDir, type Scope, until } from '../support/basics.ts'
import { run } from '../support/cli.ts'
import type { TestPostgres } from '../support/postgres.ts'
import { pseudorandom } from '../support/random.ts'
import { Unavailable } from './call.ts'
import type { World } from './entity.ts'
import { SigningKeys } from './keys.ts'
import { createLedger, type Ledger } from './ledger.ts'
import { createPopulation } from './load.ts'
import { createSite, type Site, type StoreName } from './site.ts'

/** The default of AUTH_REFRESH_GRACE. */
const graceMs = 30_000
/** Before a strike, so many writes are acknowledged at least, and then there is some time. In the long form it is more. */
const size = {
  short: { accounts: 8, clients: 2, guessers: 1, factors: 2, browsers: 2, leastWrites: 25, loadMs: 100 },
  long: { accounts: 20, clients: 5, guessers: 1, factors: 6, browsers: 5, leastWrites: 100, loadMs: 500 },
} as const
/** The strike comes so long after such a write was sent, at most. */
const writeMs = 12
const triesAtMost = 20
const againMs = 300
/** What was done is known to every process after this; contract section 3. */
const everywhereMs = 1_000

/** Of processes that are gone, a while after. */
const transactionsLeft = `SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'
  AND now() - state_change > interval '5 s' UNION SELECT 0 FROM pg_prepared_xacts`

/** Every write, for a strike in the middle of it. */
const writes = [
  ...['signup', 'login', 'refresh', 'logout', 'password change', 'deletion of an account', 'failed login'],
  ...['revocation of a refresh token', 'revocation of an access token', 'end of a session', 'end of all sessions'],
  ...['creation of a client', "replacement of a client's secret", "rotation of a client's secret"],
  ...['disabling of a client', 'enabling of a client', 'deletion of a client'],
  ...['rotation of the signing key', 'rotation of the signing key after a leak'],
  ...['confirmation of an authenticator app', 'removal of an authenticator app', 'making of recovery codes'],
  ...['spending of a code', 'spending of a recovery code', 'exchange of a code'],
]

export interface Campaign {
  readonly scope: Scope
  readonly store: StoreName
  readonly site: Site
  readonly ledger: Ledger
  readonly random: () => number
  /** the server, where the store is on one: its own, which may be killed */
  postgres?: TestPostgres
  /** Makes an empty place for data, as settings. */
  newPlace(): Promise<Record<string, string>>
  /** Has everybody act, and strikes in the midst. They go on until `strike` resolves. */
  underLoad(strike: () => Promise<void>, options?: { goesOn?: boolean }): Promise<void>
  /**
   * Settles what is in doubt, and compares the service with the ledger.
   *
   * @param options `isBehind` where a process goes on that may not have heard yet of what was done: by another, or by a
   *   request that it could not answer because its database was gone
   */
  compare(options?: { all?: boolean; isBehind?: boolean }): Promise<void>
  /** `latchkey store check`, of a place */
  checkStore(settings: Record<string, string>): Promise<void>
}

/** What a campaign is given. */
type CampaignSetup = Pick<Campaign, 'scope' | 'store' | 'postgres'> & { form: keyof typeof size }

/** Prepares a service on an empty store, and everybody who uses it. */
export async function createCampaign(setup: CampaignSetup, seed: number): Promise<Campaign> {
  const { scope, store, form } = setup
  const { leastWrites, loadMs } = size[form]
  const newPlace = async (): Promise<Record<string, string>> =>
    campaign.postgres
      ? { DATABASE_URL: await campaign.postgres.createDatabase(), AUTH_SECRET: randomUUID() }
      : { AUTH_DATA_DIR: await newDir(scope) }
  const random = pseudorandom(seed)
  const ledger = createLedger()
  let names = 0
  let isComparing = false
  let awaited: { what: string; strike: () => void } | undefined
  const world: World = {
    ledger,
    random,
    graceMs,
    call: (path, options) => patiently(() => site.call(path, options)),
    admin: (path, options) => patiently(() => site.admin(path, options)),
    onWrite(what) {
      if (awaited?.what === what) awaited.strike()
    },
    next: () => ++names,
    leaks: {
      isRefused: (token) => keys.leaks.isRefused(token),
      mayBeRefused: (token) => keys.leaks.mayBeRefused(token),
    },
  }
  /** While nothing is killed, everybody comes again after a 503. */
  async function patiently<T>(call: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await call()
      } catch (error) {
        if (!isComparing || !(error instanceof Unavailable) || tries === triesAtMost) throw error
        ledger.unavailable += 1
        await sleep(againMs)
      }
    }
  }
  const keys = new SigningKeys(world)
  const population = createPopulation(world, keys, size[form])

  /** Some time, or the time at which a certain write is under way. */
  async function moment(): Promise<void> {
    const before = ledger.writes
    await until(async () => ledger.writes >= before + leastWrites)
    if (random() < 0.4) return void (await sleep(random() * loadMs))
    const what = writes[Math.floor(random() * writes.length)] as string
    await Promise.race([
      new Promise<void>((strike) => {
        awaited = { what, strike }
      }),
      sleep(2 * loadMs),
    ])
    awaited = undefined
    await sleep(random() * writeMs)
  }

  /** Looks into the store itself. */
  async function checkStored(): Promise<void> {
    const { DATABASE_URL: url, AUTH_DATA_DIR: dir = '' } = site.settings
    const opened = await openStore(url ? { kind: 'pg', url } : { kind: 'lmdb', dir })
    try {
      await population.checkStored(opened)
    } finally {
      await opened.close()
    }
  }

  const campaign: Omit<Campaign, 'site'> = {
    ...setup,
    ledger,
    random,
    newPlace,
    async underLoad(strike, { goesOn = false } = {}) {
      let hasStruck = false
      const load = population.load((error) => {
        if (hasStruck) return
        if (error instanceof Unavailable) ledger.unavailable += 1
        else ledger.wrong.push(`${ledger.place}: no answer, and nothing was killed: ${error.message}`)
      })
      await moment()
      hasStruck = true
      await strike()
      if (goesOn) await sleep(100)
      await load.stop()
    },

    async compare({ all = false, isBehind = false } = {}) {
      await site.ready()
      if (isBehind) await sleep(everywhereMs)
      isComparing = true
      await population.settle()
      await checkStored()
      await population.check({ all })
      isComparing = false
      const { stderr, stdout } = site.running?.output ?? { stderr: '', stdout: '' }
      ledger.expect('what it says on stderr', stderr, '')
      ledger.expect('unforeseen errors', stdout.match(/^.*(internal_error|unforeseen).*$/m)?.[0], undefined)
    },

    async checkStore(settings) {
      if (store === 'lmdb')
        ledger.expect('pages of the file', checkFile(lmdbFile(settings['AUTH_DATA_DIR'] ?? '')), 'all', 'some')
      const stuck = await campaign.postgres?.execute(transactionsLeft)
      ledger.expect('transactions left open', stuck?.length ?? 0, 0)
      const { code, stdout } = await run(['store', 'check'], settings)
      ledger.expect(`latchkey store check: ${code === 0 ? '' : stdout}`, code, 0)
    },
  }
  const site = createSite(scope, await newDir(scope), await newPlace(), ledger)
  return Object.assign(campaign, { site })
}
