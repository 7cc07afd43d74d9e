import { randomBytes } from 'node:crypto'
import { getEventListeners } from 'node:events'
import { performance } from 'node:perf_hooks'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import type { End } from '../../domain/lifetimes.ts'
import { noPassword } from '../../domain/user.ts'
import { argon2 } from '../../plugins/login/argon2.ts'
import { type ForeignHash, readForeignHash } from '../../plugins/login/foreign-hashes.ts'
import { createStoredHashes } from '../../plugins/login/stored-hashes.ts'
import { callerFrom, from, until } from '../support/client-helper.ts'
import { vectors } from '../support/foreign-hashes.ts'
import { giveEmail, json, onOneStore, overStores, password, postForm, signUp, storeOf } from '../support/helper.ts'
import { isLong } from '../support/processes.ts'

const tryLogIn = (app: FastifyInstance, username: string, secret: string, options = {}) =>
  postForm(app, '/token', { username, password: secret }, options)

/** Puts a hash in the place of a user's, as an import from another system does. */
async function storeHash(app: FastifyInstance, username: string, passwordHash: string): Promise<void> {
  const user = await app.store.findUserByName(username)
  await app.store.replacePasswordHash(user?.id ?? '', user?.passwordHash ?? '', passwordHash)
}

const hashOf = async (app: FastifyInstance, username: string) =>
  (await app.store.findUserByName(username))?.passwordHash ?? ''

/** In another order each time: on a busy machine, who comes after a short pause is served first. */
const shuffled = <T>(list: T[]): T[] =>
  list
    .map((item) => ({ item, at: Math.random() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ item }) => item)
const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] as number

const cheaper = {
  'fewer passes': { timeCost: 1 },
  'a quarter of the memory': { memoryCost: 4_864 },
  'next to nothing': { memoryCost: 64, timeCost: 1 },
  'more passes, less memory': { memoryCost: 4_096, timeCost: 3 },
  'argon2i, imported': { type: argon2.argon2i, memoryCost: 4_096, timeCost: 3 },
  'argon2d, imported': { type: argon2.argon2d, memoryCost: 8_192, timeCost: 1 },
  'more lanes': { memoryCost: 8_192, timeCost: 2, parallelism: 4 },
} as const

/**
 * Of other systems, and cheaper. No password fits them. Of phpass, whose thread others on a busy machine hold up, the
 * time of the processor does not tell how long it takes: `npm run bench:hashes` has it.
 */
const digest = (bytes: number) => randomBytes(bytes).toString('base64').replaceAll('=', '')
const foreign = {
  'bcrypt of a low cost': '$2y$05$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234',
  'PBKDF2 of few iterations': `$pbkdf2-sha256$i=10000$${digest(16)}$${digest(32)}`,
  'scrypt of a low cost': `$scrypt$ln=11,r=8,p=1$${digest(16)}$${digest(32)}`,
  'wrapped MD5': `$wrapped$md5$$${digest(16)}$argon2id$v=19$m=19456,t=2,p=1$${digest(16)}$${digest(32)}`,
  'no password': noPassword,
}

onOneStore(
  'nobody learns by the time whether a name or address exists, is disabled, or has an old or imported hash (contract §4)',
  async (t, build) => {
    const settings = { AUTH_ARGON2_MEMORY: '19456', AUTH_ARGON2_TIME: '2', AUTH_THROTTLE: 'off', LOG_LEVEL: 'silent' }
    const { app } = await build({ ...settings, AUTH_HASH_CONCURRENCY: '1' })
    const today = { memoryCost: 19_456, timeCost: 2, parallelism: 1 }
    const nameOf = (kind: string) => kind.replaceAll(/[ ,]/g, '_')
    for (const kind of ['ada', 'off', ...Object.keys(cheaper), ...Object.keys(foreign)]) await signUp(app, nameOf(kind))
    const [ada, off] = await Promise.all(['ada', 'off'].map((name) => app.store.findUserByName(name)))
    await giveEmail(storeOf(app), ada?.id ?? '', 'ada@example.com')
    await storeOf(app).disableUser(off?.id ?? '', { now: 0, expiresAt: 1 } as End)
    for (const [kind, cost] of Object.entries(cheaper))
      await storeHash(app, nameOf(kind).toLowerCase(), await argon2.hash(password, { ...today, ...cost }))
    for (const [kind, stored] of Object.entries(foreign)) await storeHash(app, nameOf(kind).toLowerCase(), stored)
    const wrong = 'wrong horse battery staple'
    const attempts: [what: string, name: string, secret: string][] = [
      ['unknown', 'nobody', password],
      ['wrong password', 'ada', wrong],
      ['disabled', 'off', wrong],
      ['disabled, right password', 'off', password],
      ['unknown address', 'nobody@example.com', password],
      ['address, wrong password', 'ada@example.com', wrong],
      ...Object.keys({ ...cheaper, ...foreign }).map((kind): [string, string, string] => [kind, nameOf(kind), wrong]),
    ]
    const answers = new Set<string>()
    const times = new Map(attempts.map(([what]) => [what, [] as number[]]))
    const ratios = () => {
      const ofToday = median(attempts.slice(0, 4).flatMap(([what]) => times.get(what) ?? []))
      return Object.fromEntries([...times].map(([what, all]) => [what, Number((median(all) / ofToday).toFixed(2))]))
    }
    // A busy machine gets more rounds and, in the end, a wide bound: without padding the ratios are 0.1 to 0.5.
    const isWithin = (factor: number) => Object.values(ratios()).every((ratio) => ratio > 1 / factor && ratio < factor)
    const [least, factor] = isLong ? [15, 1.1] : [5, 1.3]
    for (let round = 0; round < 25 && !(round >= least && isWithin(factor)); round++) {
      for (const [what, name, secret] of shuffled(attempts)) {
        // Of the processor: others on a busy machine do not add to it. What waits is the store, whose calls are counted
        // in `throttle.test.ts`.
        const before = process.cpuUsage()
        const { statusCode, body } = await tryLogIn(app, name, secret)
        const { user, system } = process.cpuUsage(before)
        times.get(what)?.push(user + system)
        answers.add(`${statusCode} ${body}`)
      }
    }
    t.ok(isWithin(1.8), JSON.stringify(ratios()))
    t.equal(answers.size, 1, 'one answer for all, byte by byte')
    t.match([...answers].join(), /^400 .*invalid_grant/)
  },
)

onOneStore(
  'hashes of argon2i and argon2d, of any cost, are right for their password and are made anew (contract §5)',
  async (t, build) => {
    const { app } = await build({ AUTH_THROTTLE: 'off', AUTH_ARGON2_MEMORY: '64', AUTH_ARGON2_TIME: '2' })
    await signUp(app)
    for (const cost of [
      ...Object.values(cheaper),
      { version: 0x10 },
      { hashLength: 16 },
      { memoryCost: 65_536, timeCost: 3 },
    ]) {
      const stored = await argon2.hash(password, { memoryCost: 32, timeCost: 1, parallelism: 1, ...cost })
      await storeHash(app, 'ada', stored)
      const what = stored.slice(0, 40)
      t.equal((await tryLogIn(app, 'ada', 'wrong horse battery staple')).statusCode, 400, what)
      t.equal(await hashOf(app, 'ada'), stored, 'as long as the password is wrong')
      t.equal((await tryLogIn(app, 'ada', password)).statusCode, 200, what)
      t.match(await hashOf(app, 'ada'), /^\$argon2id\$v=19\$m=(64|[48][0-9]{3}|65536),t=[23],p=[14]\$/)
    }
  },
)

onOneStore('a user of another system logs in by the old password, and has a hash of today then', async (t, build) => {
  const { app, logs } = await build({ AUTH_THROTTLE: 'off', AUTH_ARGON2_MEMORY: '64', AUTH_ARGON2_TIME: '2' })
  await signUp(app)
  const one = (form: string) => vectors.find(({ by }) => by.includes(form)) as (typeof vectors)[number]
  for (const form of ['pbkdf2_sha256', 'bcrypt of more than 72 bytes', 'phpass, by the form', 'md5', 'better-auth']) {
    const { by, password: old, hash } = one(form)
    const { stored, isOnlyForWrapping } = readForeignHash(hash) as ForeignHash
    const caller = callerFrom('198.51.100.7', app.log)
    await storeHash(app, 'ada', isOnlyForWrapping ? await app.hashing.wrap(caller, stored) : stored)
    t.equal((await tryLogIn(app, 'ada', old.toUpperCase())).statusCode, 400, by)
    t.equal((await tryLogIn(app, 'ada', old)).statusCode, 200, by)
    t.match(await hashOf(app, 'ada'), /^\$argon2id\$v=19\$m=64,t=2,p=1\$/, 'made anew')
    t.equal((await tryLogIn(app, 'ada', old)).statusCode, 200, 'of what was typed')
    if (form.includes('72')) t.equal((await tryLogIn(app, 'ada', old.slice(0, 72))).statusCode, 400, 'and all of it')
  }
  await storeHash(app, 'ada', noPassword)
  t.equal((await tryLogIn(app, 'ada', '')).statusCode, 400)
  const refused = await tryLogIn(app, 'ada', '!')
  t.equal(refused.statusCode, 400, 'nobody logs in where there is no password')
  const why = await app.explanations.find(String(refused.headers['x-request-id']))
  t.same(why?.checks[0], { name: 'password', seen: 'none is set' }, 'which the operator is told')
  t.same(
    logs.filter(({ level }) => Number(level) > 40),
    [],
    'which is no error',
  )
})

t.test('what a hash of another system takes keeps nothing else waiting', async (t) => {
  const hashes = createStoredHashes({ memoryCost: 64, timeCost: 1, parallelism: 1 })
  const dear = {
    phpass: '$P$GabcdefghABCDEFGHIJKLMNOPQRSTU.',
    bcrypt: foreign['bcrypt of a low cost'].replace('$05$', '$10$'),
    PBKDF2: foreign['PBKDF2 of few iterations'].replace('10000', '200000'),
    scrypt: foreign['scrypt of a low cost'].replace('ln=11', 'ln=14'),
  }
  const noErrors = () => t.fail('unreadable')
  await hashes.compare(dear.phpass, 'wrong', noErrors)
  for (const [scheme, stored] of Object.entries(dear)) {
    const before = performance.eventLoopUtilization()
    await hashes.compare(stored, 'wrong', noErrors)
    const { active, idle } = performance.eventLoopUtilization(before)
    t.ok(active < 0.5 * (active + idle), `${scheme}: the event loop works ${active} ms of ${active + idle} ms`)
  }
})

onOneStore(
  'a stored hash that cannot be read is a wrong password, and a line in the log (contract §4)',
  async (t, build) => {
    const { app, logs } = await build({ AUTH_THROTTLE: 'off' })
    await signUp(app)
    const comparable = ({ statusCode, body }: { statusCode: number; body: string }) => `${statusCode} ${body}`
    const expected = comparable(await tryLogIn(app, 'nobody', password))
    const [, , , , salt, hash] = (await hashOf(app, 'ada')).split('$')
    const unreadable = [
      'x',
      '$',
      '$$$$$',
      password,
      '{"hash":1}',
      '$2b$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ0123',
      '$2b$31$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234',
    ]
    unreadable.push(
      `$scrypt$ln=0,r=8,p=1$${salt}$${hash}`,
      `$scrypt$ln=24,r=8,p=1$${salt}$${hash}`,
      `$pbkdf2-sha256$i=9999999999$${salt}$${hash}`,
      `$pbkdf2-md5$i=1$${salt}$${hash}`,
      '$argon2id$v=19$m=8,t=1,p=1$',
      `$argon2id$v=19$m=8,t=1,p=1$${salt}`,
    )
    for (const cost of ['m=0,t=1,p=1', 'm=8,t=0,p=1', 'm=8,t=1,p=0', 't=1,p=1', 'm=99999999999,t=1,p=1'])
      unreadable.push(`$argon2id$v=19$${cost}$${salt}$${hash}`)
    unreadable.push(
      `$argon2id$v=19$m=8,t=1,p=1$AA$${hash}`,
      `$argon2id$v=19$m=8,t=1,p=1$${salt}$AA`,
      `$__proto__$v=19$${salt}`,
      `$constructor$${salt}$${hash}`,
    )
    for (const stored of unreadable) {
      await storeHash(app, 'ada', stored)
      logs.length = 0
      for (const secret of [password, 'wrong horse battery staple'])
        t.equal(comparable(await tryLogIn(app, 'ada', secret)), expected, stored)
      const lines = logs.filter(({ msg }) => msg === 'a stored password hash cannot be read')
      t.same(
        lines.map(({ level }) => level),
        [50, 50],
        'two lines',
      )
      t.notOk(stored.length > 20 && JSON.stringify(logs).includes(stored), 'that do not repeat it')
      t.same(
        lines.map(({ reqId }) => reqId),
        logs.filter(({ event }) => event === 'login.failed').map(({ reqId }) => reqId),
        'of the request that failed',
      )
    }
    t.equal(app.hashing.load.running, 0)
  },
)

t.test('the first comparison with an older hash takes no less than the following ones', async (t) => {
  const cost = { memoryCost: 4_096, timeCost: 4, parallelism: 1 }
  const stored = await argon2.hash(password, { memoryCost: 64, timeCost: 1, parallelism: 1 })
  const hashes = createStoredHashes(cost)
  const noErrors = () => t.fail('unreadable')
  const startedMs = performance.now()
  await hashes.compare(stored, 'wrong', noErrors)
  const firstMs = performance.now() - startedMs
  const again = performance.now()
  await hashes.compare(undefined, 'wrong', noErrors)
  t.ok(firstMs > 0.5 * (performance.now() - again))
})

onOneStore('a connection that stays keeps nothing of the hashes it waited for', async (t, build) => {
  const { app } = await build({ AUTH_HASH_CONCURRENCY: '1' })
  const caller = callerFrom('198.51.100.7', app.log)
  const listeners = () => getEventListeners(caller.gone, 'abort').length
  const hashes = Array.from({ length: 5 }, () => app.hashing.hash(caller, password))
  t.equal(listeners(), 4, 'who waits listens')
  await Promise.all(hashes)
  t.equal(listeners(), 0)
})

/** Timers and sockets that would keep the process, by kind. */
const keptOf = (kind: string) => process.getActiveResourcesInfo().filter((what) => what.startsWith(kind)).length
const kept = () => ['Timeout', 'TCP'].map(keptOf)

overStores('at close all who wait for a hash give up, and nothing is left that keeps the process', async (t, build) => {
  const before = kept()
  const { app } = await build({
    AUTH_ARGON2_MEMORY: '65536',
    AUTH_ARGON2_TIME: '6',
    AUTH_HASH_CONCURRENCY: '1',
    AUTH_HASH_MAX_WAIT: '1m',
  })
  const waiting = Array.from({ length: 9 }, (_, i) => tryLogIn(app, `user${i}`, password, from(`198.51.100.${i}`)))
  await until(() => app.hashing.load.waiting === 8, 1)
  const startedMs = performance.now()
  await app.close()
  const answers = await Promise.all(waiting)
  t.ok(performance.now() - startedMs < 20_000, 'long before their time is over')
  t.same(
    answers.map(({ statusCode }) => statusCode),
    Array(9).fill(503),
  )
  const drained = answers.filter((answer) => json(answer).error_description === 'The service is shutting down')
  t.equal(drained.length, 8)
  for (const { headers } of drained) t.match(headers['retry-after'], /^[1-9]/)
  t.same(app.hashing.load, { running: 0, waiting: 0 })
  // Sockets of what was closed before may go meanwhile.
  await until(() => kept().every((count, kind) => count <= (before[kind] ?? 0)), 10)
})
