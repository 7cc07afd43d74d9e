import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import t from 'tap'
import type { End } from '../../domain/lifetimes.ts'
import { createLocalFailures } from '../../plugins/login/local-failures.ts'
import type { Judge, Verdict } from '../../plugins/login/throttle.ts'
import {
  callerFrom,
  failStore,
  from,
  makeClientWithChosenSecret,
  rawBasic,
  until,
  watchStore,
} from '../support/client-helper.ts'
import { giveEmail, json, onOneStore, overStores, password, postForm, signUp, storeOf } from '../support/helper.ts'
import { isLong } from '../support/processes.ts'

/** A guess at a name that exists or does not, with a right or a wrong password. */
type Guess = { name?: string; exists?: boolean; isRight?: boolean; address?: string; kind?: 'user' | 'client' }

function guess(
  app: FastifyInstance,
  { name = 'ada', exists = true, isRight = false, address = '198.51.100.7', kind = 'user' }: Guess,
  turn: () => Promise<void> | undefined = () => undefined,
) {
  const found = exists ? { id: `id of ${name}` } : undefined
  return app.throttle
    .guard(
      callerFrom(address, app.log),
      kind,
      name,
      async () => found,
      async (_found, judge) => {
        await turn()
        return judge(() => isRight)
      },
    )
    .then(
      ({ isRight }) => (isRight ? 'right' : 'wrong'),
      (error: { code?: string; headers?: Record<string, string> }) => {
        if (error.code !== 'too_many_failures') throw error
        return Number(error.headers?.['retry-after'])
      },
    )
}

async function guessTimes(app: FastifyInstance, times: number, how: Guess): Promise<(string | number)[]> {
  const ends = []
  for (let count = 0; count < times; count++) ends.push(await guess(app, how))
  return ends
}

const tryLogIn = (app: FastifyInstance, username: string, secret: string, address = '198.51.100.7') =>
  postForm(app, '/token', { username, password: secret }, from(address))

async function disable(app: FastifyInstance, username: string): Promise<string> {
  const user = await app.store.findUserByName(username)
  await storeOf(app).disableUser(user?.id ?? '', { now: Date.now(), expiresAt: Date.now() } as End)
  return user?.id ?? ''
}

/** A generator of numbers below a bound, the same for a seed. */
function randomBelow(seed: number): (bound: number) => number {
  let state = seed
  return (bound) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * bound)
  }
}

onOneStore(
  'the right password of a disabled user counts as one failure, and lets no more guesses pass at once',
  async (t, build) => {
    const { app } = await build({ AUTH_HASH_CONCURRENCY: '1' })
    await signUp(app)
    const id = await disable(app, 'ada')
    for (let count = 0; count < 8; count++)
      t.equal((await tryLogIn(app, 'ada', count < 5 ? `guess ${count}` : password)).statusCode, 400)
    await storeOf(app).enableUser(id)
    const atOnce = await Promise.all(Array.from({ length: 10 }, (_, i) => tryLogIn(app, 'ada', `guess ${i}`)))
    t.equal(atOnce.filter(({ statusCode }) => statusCode === 400).length, 2, 'two more are judged, and eight are not')
    t.equal((await tryLogIn(app, 'ada', password)).statusCode, 429)
  },
)

overStores('of any mix of guesses at once no more are judged wrong in a row than are allowed', async (t, build) => {
  const { app, clock } = await build()
  const below = randomBelow(20_261_125)
  for (let round = 0; round < (isLong ? 30 : 12); round++) {
    const name = `user ${round}`
    const before = below(10)
    await guessTimes(app, before, { name, exists: round % 2 === 0 })
    const mix = Array.from({ length: 40 }, () => ({
      name,
      exists: round % 2 === 0,
      isRight: round % 3 === 0 && below(8) === 0,
    }))
    const ends = await Promise.all(mix.map((how) => guess(app, how)))
    const [rights, wrongs] = ['right', 'wrong'].map((end) => ends.filter((each) => each === end).length) as [
      number,
      number,
    ]
    t.ok(wrongs <= 10 - before + 10 * rights, `round ${round}: ${wrongs} wrong and ${rights} right after ${before}`)
    if (rights === 0) t.equal(wrongs, 10 - before, `round ${round}`)
    clock.now += 3_600_000
  }
})

t.test('what a process has seen is never counted below zero, whatever comes between', async (t) => {
  const below = randomBelow(7)
  let ms = 0
  const seen = createLocalFailures(() => ms)
  const keys = [{ key: 'a' }, { key: 'b', tag: 'x' }, { key: 'b', tag: 'y' }]
  const key = () => keys[below(3)] as { key: string }
  const open: (() => void)[] = []
  const watching: { watch: () => { count: number; agoMs: number } | undefined; noted: number; of: object }[] = []
  const wrong = []
  for (let step = 0; step < 20_000; step++) {
    ms += below(5)
    const what = below(10)
    const one = key()
    if (what < 4) {
      open.push(seen.add([one]))
      for (const each of watching) if (each.of === one) each.noted += 1
    } else if (what < 7) open.splice(below(open.length), 1)[0]?.()
    else if (what < 9) watching.push({ watch: seen.watch(one), noted: 0, of: one })
    else {
      seen.forget(one)
      for (const each of watching) if (each.of === one) each.noted = 0
    }
    if (watching.length > 20) watching.shift()
    for (const { watch, noted } of watching) {
      const { count, agoMs } = watch() ?? { count: 0, agoMs: 0 }
      if (count < noted || agoMs < 0) wrong.push({ step, count, noted, agoMs })
    }
  }
  t.same(wrong, [], 'all that came since is in it')
  for (const recorded of open) recorded()
  for (const one of keys) t.equal(seen.watch(one)(), undefined, 'and nothing once all of it is in the store')
})

onOneStore('a guess that is not judged, or twice, is an error and never a yes', async (t, build) => {
  const { app } = await build()
  const guard = (check: (judge: Judge) => Promise<Verdict>) =>
    app.throttle.guard(
      callerFrom('192.0.2.1', app.log),
      'user',
      'ada',
      () => ({ id: 'x' }),
      (_, judge) => check(judge),
    )
  await t.rejects(
    // @ts-expect-error: only a judge makes a verdict.
    guard(async () => true),
    /not judged/,
  )
  await t.rejects(
    guard((judge) => judge(() => Promise.reject(new Error('no hash')))),
    /no hash/,
  )
  await t.rejects(
    guard(async (judge) => {
      await judge(() => true)
      return judge(() => true)
    }),
    /judged once/,
  )
  const calls = watchStore(app, /recordFailure/)
  const afterwards = guard(async (judge) => {
    await judge(() => false)
    throw new Error('something else')
  })
  await t.rejects(afterwards, /something else/)
  t.equal(calls.length, 1, 'what was wrong is counted, whatever comes after')
  t.equal(
    await app.throttle
      .guard(
        callerFrom('192.0.2.1', app.log),
        'user',
        'none',
        () => undefined,
        (_, judge) => judge(() => true),
      )
      .then(({ isRight }) => isRight),
    false,
    'nobody is right',
  )
})

overStores('a success resets the count for a guess that is under way, too', async (t, build) => {
  const { app } = await build()
  await guessTimes(app, 5, {})
  const reads = watchStore(app, /findFailures/)
  let find = () => {}
  const found = new Promise<{ id: string }>((resolve) => {
    find = () => resolve({ id: 'id of ada' })
  })
  const underWay = app.throttle.guard(
    callerFrom('198.51.100.7', app.log),
    'user',
    'ada',
    () => found,
    (_, judge) => judge(() => false),
  )
  await until(() => reads.length === 1)
  await guessTimes(app, 4, {})
  t.equal(await guess(app, { isRight: true }), 'right')
  t.equal(await guess(app, {}), 'wrong')
  find()
  t.match(await underWay, { isRight: false }, 'it is judged, and does not wait for failures from before the success')
})

onOneStore(
  'unknown names, wrong passwords and disabled users cost the same calls of the store (contract §4)',
  async (t, build) => {
    const { app } = await build()
    for (const name of ['ada', 'off', 'bob']) {
      const { id } = json(await signUp(app, name))
      await giveEmail(storeOf(app), id, `${name}@example.com`, name !== 'bob')
    }
    await disable(app, 'off')
    const calls = watchStore(app, /./)
    const work = async (name: string, secret: string, status = 400) => {
      // The row of the login before is written behind its answer.
      await app.audit.written()
      calls.length = 0
      t.equal((await tryLogIn(app, name, secret)).statusCode, status)
      return (
        [...calls]
          .sort()
          // Jobs go on meanwhile, with their leases; and why others were refused is written.
          .filter(
            (call) =>
              !/^(revocationsSince|sweep|listSigningKeys|findClient|(issue|take|miss|find)Record|importRows)$/.test(
                call,
              ),
          )
      )
    }
    for (let round = 0; round < 3; round++) {
      for (const [name, secret] of [
        ['nobody', password],
        ['ada', 'wrong wrong wrong'],
        ['off', password],
        ['off', 'wrong wrong wrong'],
      ] as const) {
        t.same(await work(name, secret), ['findFailures', 'findUserByName', 'recordFailure'], `${name}, ${round}`)
      }
    }
    await work('ada', password, 200)
    t.same(
      await work('ada', password, 200),
      ['createSession', 'findFailures', 'findUserByName'],
      'once a right one has reset the count',
    )
    const byAddress = ['findFailures', 'findUserByEmail', 'findUserByName']
    for (const [name, secret] of [
      ['nobody@example.com', password],
      ['bob@example.com', password],
      ['ada@example.com', 'wrong wrong wrong'],
      ['off@example.com', password],
    ] as const)
      t.same(await work(name, secret), [...byAddress, 'recordFailure'], name)
    await work('ada@example.com', password, 200)
    t.same(await work('ada@example.com', password, 200), ['createSession', ...byAddress])
    t.same(await work('ada@', password), ['findFailures', 'findUserByName', 'recordFailure'], 'what is no address')
  },
)

overStores(
  'a name that nobody has waits like one that exists, durably and over replicas (contract §5)',
  async (t, build) => {
    const one = await build()
    const two = await one.beside()
    const { clock } = one
    const names = { ada: true, nobody: false }
    for (const [name, exists] of Object.entries(names)) {
      for (let count = 0; count < 5; count++)
        for (const { app } of [one, two]) t.equal(await guess(app, { name, exists }), 'wrong')
      for (const { app } of [one, two]) t.equal(await guess(app, { name, exists, isRight: true }), 30, name)
    }
    const { app } = await two.restart()
    for (const wait of [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]) {
      for (const [name, exists] of Object.entries(names)) t.equal(await guess(app, { name, exists }), wait, name)
      clock.now += wait * 1000
      for (const [name, exists] of Object.entries(names)) t.equal(await guess(app, { name, exists }), 'wrong', name)
    }
    clock.now += 3_600_000
    for (let prefix = 0; prefix < 10; prefix++) {
      for (const [name, exists] of Object.entries(names))
        await guessTimes(app, 10, { name, exists, address: `203.0.${prefix}.1` })
    }
    for (const [name, exists] of Object.entries(names))
      t.type(await guess(app, { name, exists, address: '192.0.2.1' }), 'number', 'after 100 from anywhere')
  },
)

overStores('a guess that waited for its turn counts what failed at another replica meanwhile', async (t, build) => {
  const one = await build()
  const two = await one.beside()
  let turns = (): void => {}
  const turn = new Promise<void>((resolve) => {
    turns = resolve
  })
  let asked = 0
  const waiting = Array.from({ length: 10 }, () =>
    guess(one.app, {}, async () => {
      asked += 1
      await turn
    }),
  )
  // By then all of them have read that nothing has failed.
  await until(() => asked === waiting.length)
  await guessTimes(two.app, 10, {})
  turns()
  const judged = (await Promise.all(waiting)).filter((result) => result === 'wrong').length
  t.equal(judged, 1, 'the first that fails here tells the others to look')
})

onOneStore('a name that waits does so when somebody takes it meanwhile, too: nothing tells when', async (t, build) => {
  const { app, clock } = await build()
  await guessTimes(app, 10, { exists: false })
  t.equal(await guess(app, { exists: true }), 30)
  clock.now += 30_000
  t.equal(await guess(app, { exists: true, isRight: true }), 'right', 'and the right password ends it')
  t.same(await guessTimes(app, 10, {}), Array(10).fill('wrong'))
})

overStores(
  'clocks that go back and forth by hours and days: no wait above an hour, and none longer than it was said',
  async (t, build) => {
    const { app, clock } = await build()
    const below = randomBelow(42)
    const jump = () =>
      [0, 1_000, -1_000, 30_000, -50_000, 3_600_000, -3_600_000, 400 * 86_400_000, -2 * 86_400_000][below(9)] ?? 0
    for (let round = 0; round < (isLong ? 25 : 10); round++) {
      const [name, exists] = [`user ${round}`, round % 5 > 0]
      for (let count = 0; count < 10 + below(8); count++) {
        clock.now += jump()
        const end = await guess(app, { name, exists })
        if (typeof end === 'number' && !(end > 0 && end <= 3600)) t.fail(`round ${round}: ${end}`)
      }
      clock.now += jump()
      const end = await guess(app, { name, exists, isRight: true })
      if (typeof end !== 'number') continue
      if (!(end > 0 && end <= 3600)) t.fail(`round ${round}: ${end}`)
      clock.now += (end - 1) * 1000
      t.equal(await guess(app, { name, exists, isRight: true }), 1, `round ${round}: ${end} s`)
      clock.now += 1000
      t.equal(
        await guess(app, { name, exists, isRight: true }),
        exists ? 'right' : 'wrong',
        `round ${round}, afterwards`,
      )
    }
  },
)

overStores(
  'failures of a clock that was a year ahead make nobody wait a year, also after a restart (contract §2)',
  async (t, build) => {
    const first = await build()
    await signUp(first.app)
    first.clock.now += 365 * 86_400_000
    for (let count = 0; count < 10; count++) await tryLogIn(first.app, 'ada', 'wrong wrong wrong')
    first.clock.now -= 365 * 86_400_000
    const { app, clock } = await first.restart()
    const retryAfter = async () => Number((await tryLogIn(app, 'ada', password)).headers['retry-after'])
    t.equal(await retryAfter(), 30)
    clock.now += 10_000
    t.equal(await retryAfter(), 20, 'the wait goes by')
    clock.now += 20_000
    t.equal((await tryLogIn(app, 'ada', password)).statusCode, 200)
  },
)

const nobodySlots = 65_536

/** Rows by what they are for. */
async function countRows(app: FastifyInstance): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  let after: string | undefined
  do {
    const page = await app.store.exportRows('failures', { limit: 1000, ...(after !== undefined && { after }) })
    for (const { key } of page.rows) {
      const kind = /^(user|client)@?(?=\/\d+$)/.exec(key)?.[0] ?? 'own'
      counts[kind] = (counts[kind] ?? 0) + 1
    }
    after = page.next
  } while (after !== undefined)
  return counts
}

/** As many guesses as given, `atOnce` of them together. */
async function pour(app: FastifyInstance, atOnce: number, count: number, how: (i: number) => Guess): Promise<void> {
  for (let i = 0; i < count; i += atOnce) {
    await Promise.all(
      Array.from({ length: Math.min(atOnce, count - i) }, (_, at) => guess(app, { kind: 'user', ...how(i + at) })),
    )
  }
}

const anyAddress = (i: number) => `${11 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}.1`

overStores(
  'invented names and client ids, and any number of addresses, take a bounded number of rows (contract §5)',
  async (t, build) => {
    t.setTimeout(240_000)
    const { app, config } = await build({ LOG_LEVEL: 'silent' })
    const isEmbedded = config.DATABASE_URL === undefined
    const atOnce = isEmbedded ? 1_000 : 100
    // More addresses than there may be rows of them.
    const [names, others] = !isLong ? [800, 800] : isEmbedded ? [100_000, 20_000] : [1_500, 1_500]
    await guessTimes(app, 12, { name: 'known' })
    await guessTimes(app, 12, { name: 'nobody', exists: false })

    await pour(app, atOnce, names, (i) => ({ name: `name ${i}`, exists: false }))
    const heapBefore = heapUsed()
    await pour(app, atOnce, others, (i) => ({ name: `client ${i}`, exists: false, kind: 'client' }))
    await pour(app, atOnce, others, (i) => ({ name: `${i % 2 ? 'ada' : 'bob'}`, address: anyAddress(i) }))
    await pour(app, atOnce, others, (i) => ({ name: 'orders', kind: 'client', address: anyAddress(i) }))
    t.ok(heapUsed() - heapBefore < 16e6, 'memory')
    const rows = await countRows(app)
    // What so many names take of the slots by chance: with more slots, or a row for each name, it would be more.
    const expected = (count: number) => nobodySlots * (1 - (1 - 1 / nobodySlots) ** count)
    for (const [kind, count] of Object.entries({ 'user@': names, user: names, 'client@': others }))
      t.ok(Math.abs((rows[kind] ?? 0) / expected(count) - 1) < 0.02, `${kind}: ${rows[kind]} rows of ${count}`)
    t.ok((rows['own'] ?? 0) <= 2 + 2 * 65 + 1024, `accounts and clients that exist: ${rows['own']}`)
    t.type(await guess(app, { name: 'known', isRight: true }), 'number', 'who waits still does')
    t.type(await guess(app, { name: 'nobody', exists: false }), 'number', 'also under a name that nobody has')
  },
)

/** Bytes of the heap, after a collection. */
function heapUsed(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  return process.memoryUsage().heapUsed
}

onOneStore('the line of a wait names account, address and request, and no name that nobody has', async (t, build) => {
  const { app, logs } = await build()
  await signUp(app)
  const orders = await makeClientWithChosenSecret(app, { id: 'orders' })
  const throttled: LightMyRequestResponse[] = []
  const last = async (request: () => Promise<LightMyRequestResponse>) => {
    for (let count = 0; count < 10; count++) await request()
    throttled.push(await request())
  }
  await last(() => tryLogIn(app, 'ada', 'wrong wrong wrong'))
  await last(() => tryLogIn(app, 'secretname', 'wrong wrong wrong'))
  await last(() =>
    postForm(
      app,
      '/token',
      { grant_type: 'client_credentials' },
      { ...rawBasic(`${orders.id}:x`), ...from('198.51.100.7') },
    ),
  )
  const lines = logs.filter(({ event }) => event === 'login.throttled')
  const ids = throttled.map(({ statusCode, headers }) => [statusCode, headers['x-request-id']])
  t.same(
    lines.map(({ reqId }) => [429, reqId]),
    ids,
  )
  for (const line of lines) t.match(line, { account: /^[\w-]{24}$/, address: '198.51.100.7', wait_seconds: 30 })
  t.equal(new Set(lines.map(({ account }) => account)).size, 3)
  t.same(
    lines.map(({ sub, client_id }) => [typeof sub, client_id]),
    [
      ['string', undefined],
      ['undefined', undefined],
      ['undefined', 'orders'],
    ],
  )
  t.notMatch(JSON.stringify(logs), 'secretname')
})

onOneStore('a store that does not answer is 503 at every step of a guess, and never a judgement', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  for (const names of [/findFailures/, /recordFailure/]) {
    const heal = failStore(app, names)
    const response = await tryLogIn(app, 'ada', 'wrong wrong wrong')
    t.same([response.statusCode, json(response).error], [503, 'temporarily_unavailable'], String(names))
    heal()
  }
})
