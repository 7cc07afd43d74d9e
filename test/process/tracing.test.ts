import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { untraced, wantsTraces } from '../../log/traced.ts'
import { cheapHashing, password } from '../support/helper.ts'
import { type Span, startCollector } from '../support/otlp.ts'
import { distribution } from '../support/processes.ts'
import { root } from '../support/program.ts'
import { runProgram } from '../support/running.ts'

/* Traces by OpenTelemetry: what a collector is sent, and what it is not. */

const form = (fields: Record<string, string>, headers: Record<string, string> = {}) => ({
  method: 'POST',
  body: new URLSearchParams(fields),
  headers,
})
const [traceId, parentId] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331']
const from = (id: string, isSampled = true) => ({ traceparent: `00-${id}-${parentId}-0${isSampled ? 1 : 0}` })

t.test('a request is a span of the trace that it came with, and so is what takes time in it', async (t) => {
  const collector = await startCollector(t)
  const { child, output, listening, ended } = await runProgram(t, {
    ...cheapHashing,
    AUTH_WORKERS: '2',
    LOG_LEVEL: 'debug',
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.origin,
    OTEL_EXPORTER_OTLP_HEADERS: 'api-key=of-the-collector',
    OTEL_SERVICE_NAME: 'accounts',
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=here',
    // Longer than the test: all that comes was sent at the end.
    OTEL_BSP_SCHEDULE_DELAY: '600000',
  })
  const origin = await listening()
  const call = (path: string, init?: RequestInit) => fetch(origin + path, init)
  const username = 'ada-lovelace'
  await call('/signup', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ username, password }),
  })
  const answer = await call('/token', form({ username, password }, from(traceId)))
  const tokens = (await answer.json()) as { access_token: string; refresh_token: string }
  await call('/token', form({ grant_type: 'refresh_token', refresh_token: tokens.refresh_token }))
  await call(`/protected?access_token=${tokens.access_token}`, {
    headers: { authorization: `Bearer ${tokens.access_token}` },
  })
  const refused = await call('/token', form({ username, password: 'a wrong password' }))
  await call(`/nowhere/${username}?code=a-secret-code`)
  await call(`/users/me/sessions/${crypto.randomUUID()}`, { method: 'DELETE' })
  const unsampled = '1'.repeat(32)
  await call('/token', form({ username, password }, from(unsampled, false)))
  for (const path of ['/readyz', '/livez?probe=1']) await call(path)

  t.same(collector.spans, [])
  child.kill('SIGTERM')
  t.match(await ended, { code: 0 })
  const { spans } = collector
  const named = (name: string) => spans.find((span) => span.name === name) as Span
  const childrenOf = ({ spanId }: Span) => spans.filter((span) => span.parentId === spanId).map(({ name }) => name)
  const login = spans.find((span) => span.parentId === parentId) as Span

  await t.test('what is left is sent at SIGTERM, by each worker', async (t) => {
    t.equal(spans.filter(({ attributes }) => 'http.route' in attributes).length, 6)
    t.ok(named('GET'), 'and one of an unknown path')
    for (const { 'api-key': key } of collector.headers) t.equal(key, 'of-the-collector')
    for (const resource of collector.resources)
      t.match(resource, {
        'service.name': 'accounts',
        'deployment.environment.name': 'here',
        'service.version': String,
      })
  })
  await t.test('W3C traceparent is honoured, its sampling too; probes are none', async (t) => {
    t.match(login, { traceId, name: 'POST /token', status: 0 })
    t.equal(spans.filter((span) => span.traceId === unsampled).length, 0)
    t.equal(spans.filter(({ name }) => /livez|readyz/.test(name)).length, 0)
  })
  await t.test('the wait for a hash, the hash, calls of the store and the signature are its parts', async (t) => {
    const parts = childrenOf(login)
    for (const name of ['hash.wait', 'hash', 'sign', 'store.findUserByName', 'store.createSession'])
      t.ok(parts.includes(name), `${name} is one of ${parts}`)
    const refresh = spans.find((span) => childrenOf(span).includes('store.rotateSession')) as Span
    t.equal(refresh.name, 'POST /token')
    const rotation = spans.find(({ name }) => name === 'store.rotateSession') as Span
    t.same(childrenOf(rotation), ['sign'], 'signed while the disk writes')
  })
  await t.test('a refusal has its code, and is no failure of the service', async (t) => {
    const id = refused.headers.get('x-request-id')
    t.match(
      spans.find(({ attributes }) => attributes['latchkey.request_id'] === id),
      { status: 0, attributes: { 'http.response.status_code': 400, 'error.type': 'invalid_grant' } },
    )
  })
  await t.test('log lines of a request name its trace and span', async (t) => {
    const lines = output.stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line))
    const ofLogin = lines.filter(({ trace_id }) => trace_id === traceId)
    t.ok(ofLogin.some(({ event }) => event === 'login.succeeded'))
    t.ok(ofLogin.some(({ msg }) => msg === 'request completed'))
    t.same(new Set(ofLogin.map(({ span_id }) => span_id)), new Set([login.spanId]))
    t.equal(lines.filter(({ reqId, trace_id, route }) => reqId && !trace_id && !/z$/.test(route)).length, 0)
  })
  await t.test('no name, path, query, password, token or address leaves', async (t) => {
    for (const text of [username, password, 'wrong password', 'secret-code', tokens.access_token, tokens.refresh_token])
      t.notOk(collector.text.includes(text), text)
    for (const text of ['nowhere', 'access_token', '127.0.0.1']) t.notOk(collector.text.includes(text), text)
    const names = new Set(spans.flatMap(({ attributes }) => Object.keys(attributes)))
    t.same([...names].sort(), [
      'error.type',
      'http.request.method',
      'http.response.status_code',
      'http.route',
      'latchkey.request_id',
    ])
    t.same(new Set(spans.map(({ statusMessage }) => statusMessage)), new Set(['']))
  })
})

t.test('a collector that cannot be reached slows nothing down, and is told of twice', async (t) => {
  const { child, output, listening, ended } = await runProgram(t, {
    ...cheapHashing,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://127.0.0.1:1/v1/traces',
    OTEL_EXPORTER_OTLP_TIMEOUT: '50',
    OTEL_BSP_SCHEDULE_DELAY: '5',
    OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
  })
  const origin = await listening()
  const times: number[] = []
  for (let i = 0; i < 200; i++) {
    const startedAt = performance.now()
    t.equal((await fetch(`${origin}/.well-known/jwks.json`)).status, 200)
    times.push(performance.now() - startedAt)
  }
  // The sender tries again after a second.
  t.ok(distribution(times).p50 < 500, `${distribution(times).p50} ms`)
  const stoppedAt = performance.now()
  child.kill('SIGTERM')
  t.match(await ended, { code: 0 })
  t.ok(performance.now() - stoppedAt < 5_000)
  const warnings = output.stdout.split('\n').filter((line) => /"level":40/.test(line))
  t.match(warnings[0], /OTEL_EXPORTER_OTLP_PROTOCOL: traces are sent as http\/protobuf, not as \\"grpc\\"/)
  t.equal(warnings.length, 3)
  t.match(warnings[1], /traces: connect ECONNREFUSED 127\.0\.0\.1:1/)
})

t.test('traces are made where an endpoint is set, and OpenTelemetry is not off', async (t) => {
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' }
  t.equal(wantsTraces({ PATH: '/bin' }), false)
  t.equal(wantsTraces({ OTEL_SERVICE_NAME: 'accounts', OTEL_EXPORTER_OTLP_ENDPOINT: '' }), false)
  t.equal(wantsTraces(endpoint), true)
  t.equal(wantsTraces({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://collector:4318/v1/traces' }), true)
  t.equal(wantsTraces({ ...endpoint, OTEL_SDK_DISABLED: 'True' }), false)
  t.equal(wantsTraces({ ...endpoint, OTEL_TRACES_EXPORTER: 'none' }), false)
})

t.test('without it nothing of OpenTelemetry is loaded, and no function is wrapped', async (t) => {
  const seen = new Set<string>()
  const look = (path: string) => {
    if (seen.has(path)) return
    seen.add(path)
    if (!path.endsWith('.ts')) return
    const source = readFileSync(join(root, path), 'utf8')
    for (const [, target = ''] of source.matchAll(/^(?:import|export)(?! type\b)[^'"]*'([^']+)'/gm))
      look(target.startsWith('.') ? join(path, '..', target) : target)
  }
  for (const path of ['server.ts', 'app.ts']) look(path)
  t.ok(seen.has('fastify') && seen.size > 100)
  t.same(
    [...seen].filter((name) => /opentelemetry|otel/.test(name)),
    [],
  )
  const work = async () => {}
  t.equal(untraced('work', work), work)
})
