/*
 * What an operation costs with a thousand, a hundred thousand and a million users, each with a session, in both
 * stores; ten million take 7 GB of disk in LMDB and 15 in PostgreSQL, and some minutes to load:
 *
 *     npm run bench:growth -- [--sizes 1000,100000,1000000] [--stores lmdb,pg] [--rounds 5] [--json] [--assert]
 *
 * A PostgreSQL is started for it, or the one of DATABASE_URL is used, in databases that are dropped at the end. The
 * embedded store is loaded by another process, and opened here as after a restart. (What the system has of its file in
 * memory stays there: no program of Node can give it back. The warm-up reads the rest.) All sizes are open at once and
 * measured in turn, in rounds; medians of the rounds are printed. `refresh`, `login` and `firstCheck` are whole requests,
 * without a socket, and a login's hash is as cheap as argon2 makes it; the others are calls of the store. With
 * `--assert` it fails when such a request takes more of the time or the CPU than it may of what it takes in the smallest.
 */

import { randomUUID } from 'node:crypto'
import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { Store } from '../../stores/store.ts'
import { sweptTables } from '../../stores/sweeping.ts'
import type { UserPage } from '../../stores/tables/users.ts'
import { call, password } from '../load.ts'
import { inFlight, median, meter, round } from '../meter.ts'
import { makeDir, onEnd } from '../processes.ts'
import { benchSettings, startServer } from '../service.ts'
import * as data from './growth-data.ts'
import * as rows from './growth-rows.ts'
import { openServer } from './postgres.ts'
import { progress, readFlags, runScenario } from './scenario.ts'

const { flags } = readFlags({ sizes: '1000,100000,1000000', stores: 'lmdb,pg', rounds: 5, assert: false })
const sizes = flags.sizes.split(',').map(Number)
const storeNames = flags.stores.split(',')
const { rounds } = flags
const concurrency = 32
/** What a whole request may cost, as a ratio to the smallest size. */
const flatWithin: Record<string, number> = { lmdb: 1.5, pg: 1.3 }
const asserted = /^(refresh|login|firstCheck)(Cpu)?Us32$/
const sweepLimit = 500
/** In a round, of as many users: as there are in the smallest store, where some would come from memory else. */
const [firstChecks, firstChecksTogether] = [1_000, 700]
/** Nothing is stolen here. */
const noEnd = { now: 0, expiresAt: 0 } as End

interface Subject extends data.Loaded {
  store: string
  size: number
  app: FastifyInstance
  loadSeconds: number
  /** where the walk over the sessions is, counted on over its rounds */
  position: number
  /** users whose tokens were checked so far */
  checked: number
  /** the values of each figure, one for each round */
  figures: Map<string, number[]>
}
type Row = Record<string, number | string>

await runScenario(async () => {
  const subjects: Subject[] = []
  const server = storeNames.includes('pg') ? await openServer() : undefined
  for (const size of sizes) {
    for (const store of storeNames) {
      progress(`loading ${size} users and sessions into ${store} …`)
      const startedAt = performance.now()
      const isPostgres = server && store === 'pg'
      const loaded = isPostgres
        ? await data.loadPostgres(size, await server.createDatabase())
        : await data.loadLmdb(size)
      const loadSeconds = round((performance.now() - startedAt) / 1000, 2)
      const app = await buildApp(readConfig(loaded.env))
      onEnd(() => app.close())
      subjects.push({ store, size, app, ...loaded, loadSeconds, position: 0, checked: 0, figures: new Map() })
    }
  }
  const dir = makeDir()
  for (let number = 0; number <= rounds; number++) {
    progress(number === 0 ? 'warming up …' : `round ${number} of ${rounds} …`)
    for (const subject of subjects) {
      await measureCosts(subject, dir)
      if (number === 0) subject.figures.clear()
    }
  }

  /** A column for each store and size. */
  const columns: Record<string, Row> = {}
  const ratios: Record<string, Row> = {}
  for (const { store, size, figures, loadSeconds, indexSeconds, disk } of subjects) {
    const title = `${store} ${size.toLocaleString('en')}`
    const medians = [...figures].map(([figure, values]) => [figure, round(median(values))] as const)
    columns[title] = {
      ...Object.fromEntries(medians),
      loadSeconds,
      ...(indexSeconds !== undefined && { indexSeconds: round(indexSeconds, 2) }),
      ...disk,
    }
    const smallest = subjects.find((one) => one.store === store)?.figures
    for (const [figure, value] of medians) {
      if (size === sizes[0] || !/Us(32)?$|^readyMs$/.test(figure)) continue
      const ratio = round(value / median(smallest?.get(figure) ?? []), 2)
      ratios[title] = { ...ratios[title], [figure]: ratio }
      if (!flags.assert || !asserted.test(figure) || ratio <= (flatWithin[store] ?? 1)) continue
      console.error(`${title}: ${figure} is ${ratio} times that of ${sizes[0]}`)
      process.exitCode = 1
    }
  }
  const postgres = server?.version ?? ''
  return {
    environment: { node: process.version, cores: availableParallelism(), postgres, concurrency, rounds, sweepLimit },
    'microseconds, one after the other and (with "32") in flight; bytes on disk': turned(columns),
    [`as ratios to ${sizes[0]}`]: turned(ratios),
  }
})

/** Rows as columns. */
function turned(table: Record<string, Row>): Record<string, Row> {
  const rows: Record<string, Row> = {}
  for (const [title, cells] of Object.entries(table))
    for (const [name, value] of Object.entries(cells)) rows[name] = { ...rows[name], [title]: value }
  return rows
}

function note({ figures }: Subject, figure: string, value: number): void {
  figures.set(figure, [...(figures.get(figure) ?? []), value])
}

/** Measures one after the other, and in flight where a number for it is given. */
async function time(
  subject: Subject,
  figure: string,
  calls: number,
  together: number,
  work: () => unknown,
): Promise<void> {
  for (const [count, atOnce, suffix] of [[calls, 1, ''] as const, [together, concurrency, concurrency] as const]) {
    if (count === 0) continue
    const { perSecond, cpuUs = 0, wrong } = await meter({ calls: count }, atOnce, work)
    if (wrong !== undefined) throw new Error(`${figure}: ${wrong}`)
    note(subject, `${figure}Us${suffix}`, 1e6 / perSecond)
    if (atOnce > 1) note(subject, `${figure}CpuUs${suffix}`, cpuUs)
  }
}

/** No session comes again before all others have, and neighbours in time are none on disk. */
function nextSession(subject: Subject): [index: number, counter: number] {
  const { position, size } = subject
  subject.position += 1
  return [position % size, Math.floor(position / size)]
}

async function measureCosts(subject: Subject, dir: string): Promise<void> {
  const { app, size } = subject
  const { store, accessTokens, sessions } = app
  const limits = sessions.limits()
  const random = () => Math.floor(Math.random() * size)
  note(subject, 'bareSync', bareSyncUs(dir))

  await time(subject, 'findUserByName', 500, 4_000, async () => {
    if (!(await store.findUserByName(rows.nameOf(random())))) throw new Error('a user is missing')
  })

  await measureLists(subject)

  // Tokens not seen before, of users not asked for before, by an app of its own: nothing comes from memory.
  const shared = { client_id: rows.sender.clientId, aud: app.config.AUTH_AUDIENCE, generations: { user: 0, client: 0 } }
  const tokens = await inFlight(firstChecks, 1, async () => {
    const index = subject.checked++ % size
    return accessTokens.issue({ sub: rows.userId(index), sid: rows.sessionId(index), ...shared })
  })
  const fresh = await buildApp(readConfig(subject.env))
  await time(subject, 'firstCheck', firstChecks - firstChecksTogether, firstChecksTogether, async () => {
    const authorization = `Bearer ${tokens.pop()}`
    const { statusCode } = await fresh.inject({ url: '/users/me', headers: { authorization } })
    if (statusCode !== 200) throw new Error('a token was refused')
  })
  await fresh.close()

  const post = async (form: Record<string, string>) => {
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    const payload = new URLSearchParams(form).toString()
    const { statusCode, body } = await app.inject({ method: 'POST', url: '/token', payload, headers })
    if (statusCode !== 200) throw new Error(`a request was refused: ${body}`)
  }
  await time(subject, 'refresh', 0, 4_000, () => {
    const [index, counter] = nextSession(subject)
    return post({
      grant_type: 'refresh_token',
      refresh_token: app.refreshTokens.encode(rows.sessionId(index), counter),
    })
  })
  await time(subject, 'login', 0, 1_000, () =>
    post({ grant_type: 'password', username: rows.nameOf(random()), password }),
  )

  const walBefore = (await subject.walBytes?.()) ?? 0
  await time(subject, 'rotateSession', 250, 4_000, async () => {
    const [index, counter] = nextSession(subject)
    const presented = { ...rows.sender, sessionId: rows.sessionId(index), counter, scope: undefined }
    const { outcome } = await (store as Store).rotateSession({ ...limits, ...presented, graceMs: 0 }, noEnd)
    if (outcome !== 'rotated') throw new Error(`a refresh was ${outcome}`)
  })
  if (subject.walBytes) note(subject, 'walPerRefresh', ((await subject.walBytes()) - walBefore) / (250 + 4_000))

  // Somebody signs in in a browser, to an app from there, and out.
  await time(subject, 'browserInAndOut', 100, 1_000, async () => {
    const browser = rows.browserSession(random(), data, randomUUID())
    const [taking, id] = [await data.issueCode(store as Store), randomUUID()]
    const { clientId, ...seen } = rows.sender
    const times = { createdAt: data.createdAt, refreshedAt: data.createdAt, counter: 0 }
    const app = {
      id,
      userId: browser.userId,
      clientId,
      scope: [],
      generation: 0,
      ...times,
      ...seen,
      parent: browser.id,
    }
    const isIn = await (store as Store).createBrowserSession(browser, taking)
    const isOpen = isIn && (await (store as Store).createSession(app))
    if (!isOpen || !(await (store as Store).endBrowserSession(browser.id, noEnd))) throw new Error('refused')
    await store.removeRecord(`logout.${id}`)
  })

  // From anywhere in the sessions but near their end, where a step would be short; nothing there has expired.
  await time(subject, 'sweepStep', 10, 0, async () => {
    const start = (Math.floor(Math.random() * 0x70) + 0x01).toString(16).padStart(2, '0')
    const cursor = `${sweptTables.indexOf('sessions')} ${start}000000-0000-0000-0000-000000000000`
    const { removed } = await store.sweep({ ...limits, failuresBefore: 0, limit: sweepLimit, cursor })
    if (removed > 0) throw new Error('live sessions were swept')
  })
  note(subject, 'readyMs', await startMs(subject, dir))
}

/** A page of a hundred, from anywhere in the list; for a prefix and a time together, one that finds nobody. */
async function measureLists(subject: Subject): Promise<void> {
  const { store } = subject.app
  const random = () => Math.floor(Math.random() * subject.size)
  const lists: Record<string, () => UserPage> = {
    listByName: () => ({ limit, after: rows.nameOf(random()) }),
    listByPrefix: () => ({ limit, prefix: `user-${random()}` }),
    listByCreation: () => ({ limit, createdAfter: data.madeAt(random()) }),
    listByBoth: () => ({ limit, prefix: 'user-', createdAfter: data.createdAt, after: rows.nameOf(random()) }),
  }
  const limit = 100
  for (const [figure, page] of Object.entries(lists))
    await time(subject, figure, 100, 0, async () => {
      const { users } = await store.listUsers(page())
      if (users.length > limit) throw new Error('a page is too long')
    })
}

/** What the disk takes at this moment to sync 4 KiB: the durable figures vary with it. */
function bareSyncUs(dir: string): number {
  const file = openSync(join(dir, 'sync'), 'w')
  const page = Buffer.alloc(4096, 1)
  const times = Array.from({ length: 30 }, () => {
    const at = performance.now()
    writeSync(file, page)
    fdatasyncSync(file)
    return (performance.now() - at) * 1000
  })
  closeSync(file)
  return median(times)
}

/** From the start of the process to the first `GET /readyz` that is answered 200. */
async function startMs({ env }: Subject, dir: string): Promise<number> {
  const startedAt = performance.now()
  const settings = { ...benchSettings, ...env, LOG_LEVEL: 'info' }
  const { origin, end } = await startServer(settings, join(dir, `${startedAt}.log`))
  await call(`${origin}/readyz`, 200)
  const ms = performance.now() - startedAt
  await end()
  return ms
}
