import { serveMetrics } from '../../process/metrics-port.ts'
import { listen, onOneStore } from '../support/helper.ts'

/* AUTH_METRICS_PORT: what is counted, and where it is served. */

onOneStore('GET /metrics is served on AUTH_METRICS_PORT only', async (t, build) => {
  const { app, logs } = await build({ AUTH_METRICS_PORT: '0' })
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
  const { app } = await build({ AUTH_METRICS_PORT: '0' })
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
  const { app } = await build({ AUTH_METRICS_PORT: '0' })
  for (const reason of ['unknown user', 'wrong password'] as const)
    app.events.emit(app, 'login.failed', { reason, address: '192.0.2.1' })
  app.events.emit(app, 'client.refused', { reason: 'wrong secret', address: '192.0.2.1' })
  const text = String(await app.metrics?.text())
  t.match(text, /^latchkey_events_total\{event="login.failed"\} 2$/m)
  t.match(text, /^latchkey_events_total\{event="client.refused"\} 1$/m)
})

onOneStore('dropped lines are a metric', async (t, build) => {
  const { app } = await build({ AUTH_METRICS_PORT: '0' })
  const counted = await app.metrics?.snapshot()
  t.match(
    counted?.find(({ name }) => name === 'latchkey_log_lines_dropped_total'),
    { type: 'counter', values: [{ value: 0 }] },
  )
})
