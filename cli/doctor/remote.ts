import { type Check, failed, median, NotKnown, needed, ok, skipped, warning } from './check.ts'
import { judgeDate } from './clock.ts'
import {
  type Answer,
  ask,
  bare,
  type Certificate,
  certificateOf,
  isLoopback,
  isMetrics,
  NoAnswer,
  type Question,
} from './http.ts'
import { documented, judgeCertificate, judgeEquality, judgeMetadata, metadataPath } from './issuer.ts'

/** A service at a URL, as strangers see it. */
export interface Remote {
  url: string
  /** for the optional client of `LATCHKEY_CLIENT_ID`, and AUTH_METRICS_PORT */
  env: NodeJS.ProcessEnv
  now(): number
  metadata(): Promise<Answer>
  jwks(): Promise<Answer>
  certificate(): Promise<Certificate>
  /** @throws {NoAnswer} */
  ask(path: string, question?: Question): Promise<Answer>
}

export function lookAt(url: string, env: NodeJS.ProcessEnv): Remote {
  const known = new Map<string, Promise<Answer>>()
  const get = (path: string) => {
    if (!known.has(path)) known.set(path, ask(bare(url) + path))
    return known.get(path) as Promise<Answer>
  }
  return {
    url,
    env,
    now: Date.now,
    metadata: () => get(metadataPath),
    jwks: () => get('/.well-known/jwks.json'),
    certificate: () => certificateOf(url),
    ask: (path, question) => ask(path.startsWith('/') ? bare(url) + path : path, question),
  }
}

/** Waits until it is known that the service is there: else each check would wait in vain. */
const there = ({ metadata }: Remote) => documented(metadata(), 'url')

const ofThere = (id: string, find: (remote: Remote, metadata: Answer) => ReturnType<Check<Remote>['find']>) => ({
  id,
  find: async (remote: Remote) => find(remote, await there(remote)),
})

const privateMembers = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']
const algs = ['ES256', 'RS256', 'EdDSA']
const latencyRounds = 7
const latencyMs = 300
/** Where Prometheus finds metrics by habit. */
const usualMetricsPort = '9464'

/** What shows from outside, without the settings. */
export const remote: Check<Remote>[] = [
  {
    id: 'url',
    find: async ({ url, metadata }) => judgeMetadata(url, await metadata().catch((error) => error)),
  },
  ofThere('url.https', ({ url }) => {
    if (url.startsWith('https:')) return ok('passwords and tokens travel encrypted')
    return isLoopback(url)
      ? ok('plain HTTP, on this machine')
      : failed(
          'plain HTTP: passwords and tokens travel readable',
          'the proxy',
          'have it speak TLS, and set AUTH_ISSUER',
        )
  }),
  {
    id: 'url.certificate',
    async find({ url, certificate, now }) {
      if (!url.startsWith('https:')) return skipped('it is not https')
      return judgeCertificate(await needed(certificate(), 'url'), now())
    },
  },
  ofThere('url.redirect', async ({ url, ask }) => {
    if (!url.startsWith('https:') || new URL(url).port !== '') return skipped('it is not https on its usual port')
    const plain = await ask(`http://${new URL(url).hostname}/livez`, { withinMs: 1_000 }).catch((error) => error)
    if (plain instanceof NoAnswer) return ok('port 80 does not answer')
    const leads = plain.headers.get('location') ?? ''
    if (plain.status >= 300 && plain.status < 400 && leads.startsWith('https:')) return ok('HTTP leads to HTTPS')
    return plain.status >= 400
      ? ok(`HTTP is refused with ${plain.status}`)
      : failed('it answers in plain HTTP too', 'the proxy', 'have port 80 redirect to https')
  }),
  ofThere('url.hsts', ({ url }, { headers }) => {
    if (!url.startsWith('https:')) return skipped('it is not https')
    const seconds = Number(/max-age="?(\d+)/i.exec(headers.get('strict-transport-security') ?? '')?.[1] ?? 0)
    return seconds > 0
      ? ok(`for ${Math.round(seconds / 86_400)} days`)
      : warning(
          'a browser may be led to plain HTTP',
          'the proxy',
          'have it add Strict-Transport-Security: max-age=31536000',
        )
  }),
  ofThere('url.live', async ({ ask }) => {
    const [live, ready] = await Promise.all([ask('/livez'), ask('/readyz')])
    if (live.status !== 200)
      return failed(`/livez answers ${live.status}`, 'the proxy', 'have it pass all paths on to the service')
    return ready.status === 200
      ? ok('alive and ready')
      : failed(`/readyz answers ${ready.status}`, 'the store', 'the log of the service has the cause')
  }),
  ofThere('url.issuer', ({ url }, metadata) => {
    const { issuer } = metadata.json
    if (bare(issuer) === bare(url)) return ok(`it says ${issuer} of itself`)
    return isLoopback(url)
      ? warning(`it says ${issuer} of itself`, '--url', 'ask at that URL, as everybody else does')
      : judgeEquality(url, metadata)
  }),
  ofThere('url.keys', async ({ jwks }, { json }) => {
    const { json: set, headers, status } = await jwks()
    const keys: Record<string, string>[] = Array.isArray(set?.keys) ? set.keys : []
    if (status !== 200 || keys.length === 0)
      return failed(`${status}, and no keys`, 'the proxy', 'have it pass /.well-known/jwks.json on to the service')
    if (keys.some((key) => privateMembers.some((member) => member in key)))
      return failed('a key has a private part', 'the signing keys', 'latchkey keys rotate --leaked, at once')
    const kids = new Set(keys.map(({ kid }) => kid))
    if (kids.size < keys.length || keys.some(({ kid, alg, use }) => !kid || !algs.includes(alg ?? '') || use !== 'sig'))
      return failed(
        'a key has no kid, alg or use of its own',
        'the proxy',
        'find out what answers in the place of the service',
      )
    if (json.jwks_uri !== `${bare(json.issuer)}/.well-known/jwks.json`)
      return failed(
        `clients are sent to ${String(json.jwks_uri).slice(0, 200)} for them`,
        'the proxy',
        'have it leave the text of answers as it is',
      )
    if (!/max-age=\d/.test(headers.get('cache-control') ?? ''))
      return warning('services may not cache them', 'the proxy', 'have it leave Cache-Control as it is')
    return ok(keys.map(({ kid, alg }) => `${alg} ${kid?.slice(0, 8)}…`).join(', '))
  }),
  ofThere('url.clock', (_remote, metadata) => judgeDate(metadata, 'its clock')),
  ofThere('url.latency', async ({ ask }) => {
    const times: number[] = []
    for (let i = 0; i < latencyRounds; i++) times.push((await ask('/livez')).ms)
    const ms = median(times)
    const seen = `${ms.toFixed(ms < 10 ? 1 : 0)} ms, the median of ${latencyRounds}`
    return ms > latencyMs
      ? warning(seen, 'the way there', 'bring it nearer to its clients, or look at its load')
      : ok(seen)
  }),
  ofThere('url.no_store', async ({ ask }) => {
    // Refused for what it lacks, before anything is looked up.
    const { status, json, headers } = await ask('/token', { method: 'POST', body: new URLSearchParams() })
    if (status !== 400 || json?.error !== 'invalid_request')
      return failed(`/token answers ${status} to an empty form`, 'the proxy', 'have it pass POST /token on as it is')
    return headers.get('cache-control')?.includes('no-store') && headers.get('pragma') === 'no-cache'
      ? ok('answers with tokens are kept by nobody')
      : failed('answers of /token may be cached', 'the proxy', 'have it leave Cache-Control and Pragma as they are')
  }),
  ofThere('url.headers', (_remote, { headers }) => {
    const missing = ['x-request-id', 'x-content-type-options'].filter((name) => !headers.has(name))
    if (missing.length > 0)
      return warning(
        `${missing.join(' and ')} got lost`,
        'the proxy',
        'have it leave the fields of answers as they are',
      )
    const told = [headers.get('server'), headers.get('x-powered-by')].filter((text) => /\d/.test(text ?? ''))
    return told.length === 0
      ? ok('all there, and none tells a version')
      : warning(`they tell ${told.join(', ')}`, 'the proxy', 'have it leave out its version (nginx: server_tokens off)')
  }),
  ofThere('url.cors', async ({ ask }) => {
    const { headers } = await ask('/livez', { headers: { origin: 'https://doctor.invalid' } })
    const allowed = headers.get('access-control-allow-origin')
    return allowed === null
      ? ok('pages of strangers cannot read its answers')
      : failed(`any page may read its answers: ${allowed}`, 'the proxy', 'leave CORS to AUTH_CORS_ORIGINS')
  }),
  ofThere('url.admin', async ({ ask }) => {
    const { status } = await ask('/admin/users')
    return status >= 400
      ? ok(`/admin/ is refused without a token, with ${status}`)
      : failed(`/admin/users answers ${status} without a token`, 'the proxy', 'find out what adds a token')
  }),
  ofThere('url.metrics', async ({ url, env, ask }) => {
    const { protocol, hostname, port } = new URL(url)
    const own = `:${env['AUTH_METRICS_PORT'] || usualMetricsPort}/metrics`
    const places = ['/metrics', ...(isLoopback(url) || own.startsWith(`:${port}/`) ? [] : [`http://${hostname}${own}`])]
    const answers = await Promise.all(places.map((place) => ask(place, { withinMs: 1_000 }).catch(() => undefined)))
    const at = answers.findIndex((answer) => answer !== undefined && isMetrics(answer))
    if (at < 0) return ok(`not at ${places.join(', nor ')}`)
    const where = places[at] as string
    return failed(
      `anybody may read them at ${where.startsWith('/') ? `${protocol}//${hostname}${where}` : where}`,
      'AUTH_METRICS_PORT',
      'let the firewall or the proxy keep that port to Prometheus',
    )
  }),
  ofThere('url.revocations', async ({ env, ask }) => {
    const { LATCHKEY_CLIENT_ID: id, LATCHKEY_CLIENT_SECRET: secret } = env
    if (!id || !secret) throw new NotKnown('LATCHKEY_CLIENT_ID and LATCHKEY_CLIENT_SECRET are not set')
    const credentials = [id, secret].map(encodeURIComponent).join(':')
    const authorization = `Basic ${Buffer.from(credentials).toString('base64')}`
    const page = await ask('/revocations', { headers: { authorization } })
    if (page.status !== 200 || !Array.isArray(page.json?.revocations))
      return failed(
        `${page.status} ${String(page.json?.detail ?? '').slice(0, 200)}`,
        'LATCHKEY_CLIENT_ID',
        'name a client with the introspection right, and its secret: docs/clients.md',
      )
    const accept = 'text/event-stream'
    const first = 'event: revocations'
    const stream = await ask('/revocations', { headers: { authorization, accept }, until: first }).catch(
      () => undefined,
    )
    return stream?.text.includes(first)
      ? ok('they can be read, and followed as a stream')
      : failed(
          'the stream is held back',
          'the proxy',
          'have it not buffer text/event-stream (nginx: proxy_buffering off)',
        )
  }),
]
