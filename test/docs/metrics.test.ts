import t from 'tap'
import { parse } from 'yaml'
import { overStores } from '../support/helper.ts'
import { anchorsIn, matches, quoted, readPage, rowsIn } from '../support/pages.ts'

/*
 * docs/metrics.md, and the alerts and the dashboard of deploy/, name what there is: each metric with its type and
 * labels, and of labels the values.
 */

interface Metric {
  type: string
  labels: string[]
  /** by label: those that are there before anything has happened */
  values: Map<string, Set<string>>
}

/** Of both stores. What the primary of several workers adds has none. */
const metrics = new Map<string, Metric>([['latchkey_workers', { type: 'gauge', labels: [], values: new Map() }]])

overStores('the metrics of a service', async (t, build) => {
  const { app } = await build({ AUTH_METRICS_PORT: '0' })
  const registry = app.metrics?.meters.registry
  for (const { name, type, labelNames } of (registry?.getMetricsAsArray() ?? []) as unknown as Described[]) {
    const { values } = (await registry?.getSingleMetric(name)?.get()) ?? { values: [] }
    const known = metrics.get(name) ?? { type, labels: [...labelNames].sort(), values: new Map() }
    metrics.set(name, known)
    for (const [label, value] of values.flatMap(({ labels }) => Object.entries(labels)))
      known.values.set(label, (known.values.get(label) ?? new Set()).add(String(value)))
  }
  t.ok(metrics.size > 20)
})
interface Described {
  name: string
  type: string
  labelNames: string[]
}

t.test('docs/metrics.md has every metric with its type and labels, and no other', async (t) => {
  const page = readPage('docs/metrics.md')
  const own = [...metrics].filter(([name]) => name.startsWith('latchkey_'))
  t.same(
    rowsIn(page, 'metric')
      .map(([name, type, labels]) => [...quoted(name), type, ...quoted(labels).sort()].join(' '))
      .sort(),
    own.map(([name, { type, labels }]) => [name, type, ...labels].join(' ')).sort(),
  )
  const ofProcess = rowsIn(page, 'of the process').flatMap(([name]) => quoted(name))
  t.ok(ofProcess.length > 3)
  t.same(
    ofProcess.filter((name) => !metrics.has(name)),
    [],
  )
})

t.test('names are as Prometheus has them: the unit last, and _total where something is counted', async (t) => {
  for (const [name, { type }] of metrics) {
    if (!name.startsWith('latchkey_')) continue
    t.equal(name.endsWith('_total'), type === 'counter', name)
    if (type === 'histogram') t.match(name, /_seconds$/)
  }
})

/** Each route may be refused by an error of ours, so that they are known from the start. */
const routes = () => metrics.get('latchkey_refusals_total')?.values.get('route')

/** What is wrong with a PromQL expression: names and labels that no metric has, and values that no label has. */
function wrongIn(expression: string): string[] {
  const wrong: string[] = []
  const labels = new Set(['instance', 'le', 'job'])
  for (const [, name = '', selector = ''] of expression.matchAll(
    /\b((?:latchkey|process|nodejs)_\w+)(?:\{([^}]*)\})?/g,
  )) {
    const of = metrics.get(name)
    const ofParts = metrics.get(name.replace(/_(bucket|sum|count)$/, ''))
    const metric = of?.type === 'histogram' ? undefined : (of ?? (ofParts?.type === 'histogram' ? ofParts : undefined))
    if (!metric) wrong.push(`${name} is no metric`)
    for (const label of metric?.labels ?? []) labels.add(label)
    for (const [, label = '', values = ''] of selector.matchAll(/(\w+)[=!]~?"([^"]*)"/g)) {
      if (['instance', 'job'].includes(label)) continue
      const known = metric?.values.get(label) ?? (label === 'route' ? routes() : undefined)
      if (!metric?.labels.includes(label)) wrong.push(`${name} has no label ${label}`)
      // A status is whatever an answer has.
      else if (label !== 'status')
        wrong.push(
          ...values.split('|').flatMap((value) => (known?.has(value) ? [] : `${label} of ${name} is no ${value}`)),
        )
    }
  }
  for (const list of matches(expression, /\bby \(([^)]*)\)/g))
    for (const label of list.split(/, */)) if (!labels.has(label)) wrong.push(`nothing has a label ${label}`)
  return wrong
}

t.test('what is checked of an expression', async (t) => {
  t.same(wrongIn('sum by (instance, route) (rate(latchkey_refusals_total{code="internal_error"}[5m]))'), [])
  t.same(wrongIn('sum by (user) (rate(latchkey_refresh_total[5m]))'), [
    'latchkey_refresh_total is no metric',
    'nothing has a label user',
  ])
  t.same(wrongIn('latchkey_hash_wait_seconds + latchkey_hash_wait_seconds_count'), [
    'latchkey_hash_wait_seconds is no metric',
  ])
  t.same(wrongIn('latchkey_refreshes_total{outcome=~"reused|stolen",client="a"}'), [
    'outcome of latchkey_refreshes_total is no stolen',
    'latchkey_refreshes_total has no label client',
  ])
})

interface Alert {
  alert: string
  expr: string
  for: string
  labels: { severity: string }
  annotations: { summary: string; runbook: string }
}

t.test('the alerts: metrics that there are, a time to last, a severity, and a runbook that exists', async (t) => {
  const { groups } = parse(readPage('deploy/prometheus-alerts.yml')) as { groups: { rules: Alert[] }[] }
  const alerts = groups.flatMap(({ rules }) => rules)
  const anchors = anchorsIn(readPage('docs/metrics.md'))
  t.ok(alerts.length > 5)
  for (const { alert, expr, for: lasting, labels, annotations } of alerts) {
    t.same(wrongIn(expr), [], alert)
    t.match(lasting, /^[1-9]\d*m$/, alert)
    t.match(labels.severity, /^(critical|warning)$/, alert)
    t.ok(annotations.summary.length > 10, alert)
    t.equal(annotations.runbook, `docs/metrics.md#${alert.toLowerCase()}`)
    t.ok(anchors.includes(alert.toLowerCase()), annotations.runbook)
  }
  const tried = readPage('deploy/prometheus-alerts.test.yml')
  t.same(
    alerts.filter(({ alert }) => !tried.includes(`alertname: ${alert}`)).map(({ alert }) => alert),
    [],
    'each is tried by promtool',
  )
})

// biome-ignore lint/suspicious/noTemplateCurlyInString: it is Grafana's
const chosen = '${datasource}'

interface Panel {
  type: string
  title: string
  datasource?: { uid: string }
  targets?: { expr: string; datasource: { uid: string } }[]
}

t.test(
  'the dashboard: metrics that there are, of the data source that one chooses, and no metric of ours left out',
  async (t) => {
    const { panels, templating } = JSON.parse(readPage('deploy/grafana-dashboard.json')) as {
      panels: Panel[]
      templating: { list: { name: string; type: string; definition?: string }[] }
    }
    t.match(templating.list[0], { name: 'datasource', type: 'datasource' })
    const drawn = panels.filter(({ type }) => type !== 'row')
    t.ok(drawn.length > 10)
    for (const { title, datasource, targets = [] } of drawn) {
      t.ok(targets.length > 0, title)
      for (const { expr, datasource: ofTarget } of targets) {
        t.same(wrongIn(expr), [], `${title}: ${expr}`)
        t.same(new Set([datasource?.uid, ofTarget.uid]), new Set([chosen]), title)
      }
    }
    const text = drawn.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)).join('\n')
    const missing = [...metrics.keys()].filter((name) => name.startsWith('latchkey_') && !text.includes(name))
    t.same(missing, [])
  },
)
