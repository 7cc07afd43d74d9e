import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { type Amr, signInMethods } from '../../domain/authentication.ts'
import { loginFailures } from '../../events.ts'
import { createMeters } from '../../plugins/metrics/meters.ts'
import { timeCalls } from '../../plugins/metrics/store-calls.ts'
import { serveMetrics } from '../../process/metrics-port.ts'
import { type Store, StoreUnavailable } from '../../stores/store.ts'
import { basic, makeClient } from '../support/client-helper.ts'
import { listen, logIn, onOneStore, password, postForm, refresh, signUp, storeOf } from '../support/helper.ts'

const metricsOn = { AUTH_METRICS_PORT: '0' }
const day = 86_400_000

/** The lines of a metric, each as its labels and its value, such as `{outcome="rotated"} 1`; of no labels ` 1`. */
async function read(app: FastifyInstance, name: string): Promise<string[]> {
  const text = String(await app.metrics?.text())
  return text
    .split('\n')
    .flatMap((line) => (line.startsWith(`${name}{`) || line.startsWith(`${name} `) ? [line.slice(name.length)] : []))
}
/** Those that are not 0. */
const counted = async (app: FastifyInstance, name: string) =>
  (await read(app, name)).filter((line) => !line.endsWith(' 0')).sort()
const valueIn = async (app: FastifyInstance, name: string) => Number((await read(app, name))[0])

/* AUTH_METRICS_PORT: what is counted, and where it is served. */

onOneStore('GET /metrics is served on AUTH_METRICS_PORT only', async (t, build) => {
  const { app, logs } = await build(metricsOn)
  t.teardown(await serveMetrics(app.config, app.log, async () => String(await app.metrics?.text())))
  const origin = await listen(app)
  await fetch(`${origin}/livez`)
  const address = String(logs.find(({ msg }) => msg === 'metrics are served')?.['address'])
  const metrics = await (await fetch(address)).text()
  t.match(metrics, /latchkey_http_request_duration_seconds_count\{method="GET",route="\/livez",status="200"\} 1/)
  t.match(metrics, /latchkey_hashes_running 0/)
  t.equal((await fetch(`${origin}/metrics`)).status, 404)
})

onOneStore('without AUTH_METRICS_PORT nothing is counted, and nothing served', async (t, build) => {
  const { app, logs } = await build()
  t.equal(app.metrics, undefined)
  await (await serveMetrics(app.config, app.log, async () => ''))()
  t.notOk(logs.find(({ msg }) => msg === 'metrics are served'))
})

onOneStore('requests to every route are counted', async (t, build) => {
  const { app } = await build(metricsOn)
  const patterns = [...app.knownPaths].filter(([, { methods }]) => methods.has('GET') || methods.has('POST'))
  for (const [pattern, { methods }] of patterns)
    await app.inject({
      method: methods.has('GET') ? 'GET' : 'POST',
      url: pattern.replace(/:\w+/g, 'x').replace('*', 'index.css'),
    })
  const text = String(await app.metrics?.text())
  const uncounted = patterns.filter(([pattern]) => !text.includes(`route="${pattern}"`))
  t.ok(patterns.length > 20)
  t.same(
    uncounted.map(([pattern]) => pattern),
    [],
  )
})

onOneStore('events are counted by name', async (t, build) => {
  const { app } = await build(metricsOn)
  for (const reason of ['unknown user', 'wrong password'] as const)
    app.events.emit(app, 'login.failed', { reason, address: '192.0.2.1' })
  app.events.emit(app, 'client.refused', { reason: 'wrong secret', address: '192.0.2.1' })
  const text = String(await app.metrics?.text())
  t.match(text, /^latchkey_events_total\{event="login.failed"\} 2$/m)
  t.match(text, /^latchkey_events_total\{event="client.refused"\} 1$/m)
})

onOneStore('sign-ins are counted by what was signed in with', async (t, build) => {
  const { app } = await build(metricsOn)
  await signUp(app)
  const { sub, sid, address } = { sub: 'ada', sid: 'one', address: '192.0.2.1' }
  const signedIn = (amr?: Amr[]) =>
    app.events.publish(app, 'login.succeeded', { sub, sid, client_id: 'web', address, ...(amr && { amr }) })
  const all: Amr[][] = [
    ['pwd', 'otp', 'mfa'],
    ['pwd', 'hwk', 'user', 'mfa'],
    ['pwd', 'mfa'],
    ['swk', 'user', 'mfa'],
  ]
  for (const amr of all) signedIn(amr)
  await logIn(app)
  t.same(await counted(app, 'latchkey_sign_ins_total'), signInMethods.map((method) => `{method="${method}"} 1`).sort())
  for (const reason of loginFailures) app.events.emit(app, 'login.failed', { reason, address })
  t.match(
    await counted(app, 'latchkey_logins_total'),
    ['disabled_user', 'succeeded', 'unknown_user', 'wrong_code', 'wrong_passkey', 'wrong_password'].map(
      (outcome) => `{outcome="${outcome}"}`,
    ),
  )
})

onOneStore('dropped lines are a metric', async (t, build) => {
  const { app } = await build(metricsOn)
  const counted = await app.metrics?.snapshot()
  t.match(
    counted?.find(({ name }) => name === 'latchkey_log_lines_dropped_total'),
    { type: 'counter', values: [{ value: 0 }] },
  )
})

onOneStore('grants, logins, refreshes and refusals are counted by what came of them', async (t, build) => {
  const { app, clock } = await build({ ...metricsOn, AUTH_REFRESH_GRACE: '10s' })
  await signUp(app)
  const first = (await logIn(app)).refresh_token
  for (const username of ['ada', 'nobody'])
    await postForm(app, '/token', { username, password: 'wrong horse battery staple' })
  await postForm(app, '/token', { grant_type: 'password' })
  const second = (await refresh(app, first)).json().refresh_token
  await refresh(app, first)
  await app.inject({ method: 'POST', url: '/refresh', payload: { refresh_token: second } })
  clock.now += 11_000
  await refresh(app, first)
  await refresh(app, second)
  t.same(await counted(app, 'latchkey_grants_total'), [
    '{grant="password",outcome="invalid_grant"} 2',
    '{grant="password",outcome="invalid_request"} 1',
    '{grant="password",outcome="issued"} 1',
    '{grant="refresh_token",outcome="invalid_grant"} 2',
    '{grant="refresh_token",outcome="issued"} 3',
  ])
  t.same(await counted(app, 'latchkey_logins_total'), [
    '{outcome="succeeded"} 1',
    '{outcome="unknown_user"} 1',
    '{outcome="wrong_password"} 1',
  ])
  t.same(await counted(app, 'latchkey_refreshes_total'), [
    '{outcome="repeated"} 1',
    '{outcome="reused"} 1',
    '{outcome="rotated"} 2',
    '{outcome="unknown"} 1',
  ])
  t.same(await counted(app, 'latchkey_refusals_total'), [
    '{route="/token",code="invalid_grant"} 4',
    '{route="/token",code="invalid_request"} 1',
  ])
  t.equal(await valueIn(app, 'latchkey_revocation_lag_seconds_count'), 1, 'of the session that was ended')

  for (let n = 0; n < 12; n++) await postForm(app, '/token', { username: 'ada', password: `wrong ${n}` })
  t.match(await counted(app, 'latchkey_logins_total'), ['{outcome="succeeded"} 1', /throttled"} [1-9]/])
})

onOneStore('no label is of what strangers send', async (t, build) => {
  const { app } = await build(metricsOn)
  const word = 'of-a-stranger'
  for (const url of [`/${word}`, `/token/${word}`, `/admin/users/${word}`, `/protected?${word}`])
    await app.inject({ url })
  await app.inject({ method: 'DELETE', url: `/${word}` })
  for (const form of [
    { grant_type: word },
    { grant_type: 'password', username: word, password: word, client_id: word, scope: word },
    { grant_type: 'refresh_token', refresh_token: word },
  ])
    await postForm(app, '/token', form, { headers: { 'user-agent': word, 'x-request-id': word } })
  await app.inject({ url: '/revocations', ...basic({ id: word, secret: word }) })
  const text = String(await app.metrics?.text())
  t.notMatch(text, word)
  t.match(text, /latchkey_http_request_duration_seconds_count\{method="GET",route="none",status="404"\} 2/)
  t.match(text, /latchkey_grants_total\{grant="other",outcome="unsupported_grant_type"\} 1/)
})

onOneStore('every wait for a hash is timed, and every one that had none is counted', async (t, build) => {
  const { app } = await build({
    ...metricsOn,
    ...{ AUTH_ARGON2_MEMORY: '19456', AUTH_ARGON2_TIME: '2', AUTH_HASH_CONCURRENCY: '1', AUTH_HASH_MAX_WAIT: '1s' },
    AUTH_THROTTLE: 'off',
  })
  await signUp(app)
  const answers = await Promise.all(
    Array.from({ length: 100 }, () => postForm(app, '/token', { username: 'ada', password })),
  )
  const refused = answers.filter(({ statusCode }) => statusCode === 503).length
  const counts = (await read(app, 'latchkey_hashes_refused_total')).map((line) => Number(line.split(' ').at(-1)))
  t.ok(refused > 0 && refused < 100)
  t.equal(
    counts.reduce((sum, count) => sum + count, 0),
    refused,
  )
  t.equal(await valueIn(app, 'latchkey_hash_wait_seconds_count'), 101 - refused, 'of those who had one, the signup too')
  t.equal(await valueIn(app, 'latchkey_hash_duration_seconds_count'), 101 - refused)
  t.equal(await valueIn(app, 'latchkey_hashes_limit'), 1)
})

onOneStore(
  'keys tell their age, the sweeper what it did and how far behind it is, the store its room',
  async (t, build) => {
    const { app, clock } = await build({ ...metricsOn, AUTH_KEY_ROTATION: '30d' })
    app.jobs.stopAll()
    await app.jobs.ended()
    clock.now += 10 * day
    clock.passedMs = 10 * day
    t.equal(Math.round((await valueIn(app, 'latchkey_signing_key_age_seconds')) / 86_400), 10)
    t.equal(Math.round((await valueIn(app, 'latchkey_signing_key_rotation_due_seconds')) / 86_400), 20)
    t.same(await counted(app, 'latchkey_signing_keys'), ['{state="current"} 1'])

    await storeOf(app).recordFailure([{ key: 'a' }, { key: 'b' }], clock.now - 2 * day)
    await app.sweeper.round()
    clock.passedMs = 10 * day + 3_600_000
    const behind = await valueIn(app, 'latchkey_sweep_behind_seconds')
    t.ok(behind >= 3_600 && behind < 3_700, String(behind))
    t.same(await counted(app, 'latchkey_swept_rows_total'), ['{table="failures"} 2'])
    await app.sweeper.round()
    t.ok((await valueIn(app, 'latchkey_sweep_behind_seconds')) < 60)

    t.ok((await valueIn(app, 'latchkey_lmdb_used_bytes')) > 10_000)
    t.ok((await valueIn(app, 'latchkey_disk_free_bytes')) > 1_000_000)
    await app.close()
    t.same(await read(app, 'latchkey_lmdb_used_bytes'), [], 'nothing is asked of a store that is closed')
  },
)

onOneStore('a stream of revocations is no slow answer', async (t, build) => {
  const { app } = await build(metricsOn)
  const { headers } = basic(await makeClient(app, { id: 'gateway', introspect: 'all' }))
  const origin = await listen(app)
  const { body } = await fetch(`${origin}/revocations`, { headers: { ...headers, accept: 'text/event-stream' } })
  await body?.getReader().read()
  await fetch(`${origin}/revocations`, { headers })
  await app.close()
  t.match(await counted(app, 'latchkey_http_request_duration_seconds_count'), [
    '{method="GET",route="/revocations",status="200"} 1',
  ])
})

t.test('calls of the store are timed and their failures counted, and what they answer is passed on', async (t) => {
  const meters = createMeters()
  const unavailable = new StoreUnavailable(new Error('away'))
  const answer = Promise.resolve({ outcome: 'rotated' })
  const store = timeCalls(meters)({
    name: 'fake',
    rotateSession: () => answer,
    findUser: (id: string) => Promise.resolve(id === 'ada' ? { id } : undefined),
    ping: () => Promise.reject(unavailable),
    usage: () => ({ open: 1 }),
  } as unknown as Store)
  t.equal(store.name, 'fake')
  t.equal(store.rotateSession(...([] as unknown as Parameters<Store['rotateSession']>)), answer, 'no turn is added')
  t.same(await store.findUser('ada'), { id: 'ada' })
  await t.rejects(store.ping(), unavailable)
  t.same(store.usage(), { open: 1 })
  const text = await meters.registry.metrics()
  for (const method of ['rotateSession', 'findUser', 'ping'])
    t.match(text, `latchkey_store_call_duration_seconds_count{method="${method}"} 1`)
  t.match(text, 'latchkey_store_errors_total{method="ping"} 1')
  t.match(text, 'latchkey_store_errors_total{method="findUser"} 0')
  t.match(text, 'latchkey_refreshes_total{outcome="rotated"} 1')
})
