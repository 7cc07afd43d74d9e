import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { anyAppId } from '../../domain/client.ts'
import { metadataUrl, readMetadata, unregisteredClient } from '../../domain/client-metadata.ts'
import { createClientMetadata } from '../../plugins/clients/client-metadata.ts'
import { createGuardedFetch, FetchFailed, type GuardedRequest } from '../../plugins/run/guarded-fetch.ts'
import { administered } from '../support/admin.ts'
import { answerOf, openBrowser } from '../support/browser.ts'
import { isOAuthError, makeClient } from '../support/client-helper.ts'
import {
  claimsOf,
  json,
  onOneStore,
  overStores,
  postForm,
  type Scope,
  signUp,
  storeOf,
  withToken,
} from '../support/helper.ts'

/* Apps that nobody has registered: their client_id is the URL of their metadata. */

type Serve = (request: IncomingMessage, response: ServerResponse) => void
const asJson = { 'content-type': 'application/json' }

/** What an app serves at its client_id, and how often it was asked. */
async function serveDocument(t: Scope, headers: Record<string, string> = asJson) {
  const asked: string[] = []
  const site = {
    asked,
    members: { redirect_uris: ['https://app.example/cb'], client_name: 'Ada’s App' } as Record<string, unknown>,
    serve: undefined as Serve | undefined,
    headers,
    origin: '',
    id: '',
  }
  const server = createServer((request, response) => {
    asked.push(request.url ?? '')
    if (site.serve) return site.serve(request, response)
    const client_id = site.origin + request.url
    response.writeHead(200, site.headers).end(JSON.stringify({ client_id, ...site.members }))
  }).listen(0, '127.0.0.1')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  await new Promise((resolve) => server.once('listening', resolve))
  site.origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  site.id = `${site.origin}/client.json`
  return site
}

const code_challenge = 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'

/** Where a browser gets to that comes from an app. */
async function authorize(app: FastifyInstance, client_id: string, redirect_uri = 'https://app.example/cb') {
  const pkce = { code_challenge, code_challenge_method: 'S256' }
  const query = new URLSearchParams({ client_id, redirect_uri, response_type: 'code', ...pkce })
  const { statusCode, headers } = await app.inject({ url: `/authorize?${query}` })
  return { statusCode, to: String(headers['location'] ?? ''), id: String(headers['x-request-id']) }
}

const isLetIn = async (app: FastifyInstance, ...asked: [client_id: string, redirect_uri?: string]) => {
  const { statusCode, to } = await authorize(app, ...asked)
  return statusCode === 303 && to.startsWith('/sign-in?')
}

const settings = { AUTH_CIMD: 'on', AUTH_FETCH_ALLOW: '127.0.0.1' }

t.test('a client_id is the URL of metadata in one form only, with a path', async (t) => {
  for (const id of [
    ...['https://app.example/client.json', 'https://app.example:8443/a/b', 'https://app.example/c?v=1'],
    ...['https://xn--bcher-kva.example/c', 'https://app.example/@ada', 'http://127.0.0.1:3000/c'],
  ])
    t.equal(metadataUrl(id)?.href, id, id)
  for (const id of [
    ...['https://app.example', 'https://app.example/', 'app.example/c', '/c', anyAppId, `${anyAppId}/`, 'first-party'],
    ...['https://app.example/c#', 'https://app.example/c#a', 'https://ada@app.example/c', 'https://a:b@app.example/c'],
    ...[
      'https://app.example/./c',
      'https://app.example/a/../c',
      'https://app.example/%2e%2E/c',
      'https://app.example/a/..',
    ],
    ...['https://APP.example/c', 'HTTPS://app.example/c', 'https://app.example:443/c', 'https:/app.example/c'],
    ...['https:\\\\app.example\\c', 'https://app.example\\@evil.example/c', 'https://127.1/c', 'https://0x7f000001/c'],
    ...['https://app%2eexample/c', 'https://app.example/c d', 'https://app.example/\tc', 'ftp://app.example/c'],
    ...['https:///app.example/c', 'javascript:alert(1)', 'file:///etc/passwd', 'https://app.example/a..b'],
  ])
    t.equal(metadataUrl(id), undefined, id)
})

t.test('a document is taken for what it says of its own client, and of nothing secret', async (t) => {
  const id = 'https://app.example/client.json'
  const good = { client_id: id, redirect_uris: ['https://app.example/cb'] }
  const read = (members: object) => readMetadata(id, Buffer.from(JSON.stringify(members)))
  t.same(read(good), { name: 'app.example', redirectUris: good.redirect_uris })
  const named = (client_name: unknown) => read({ ...good, client_name }).name
  t.equal(named('Bank'), 'Bank (app.example)', 'whoever calls themselves something is shown with their host')
  for (const name of ['', 'x'.repeat(101), 7, 'Bank\u202e', ' Bank', 'Bank\n(bank.example)'])
    t.equal(named(name), 'app.example')
  const redirect_uris = ['cursor://cb', 'http://app.example/cb', 7, 'http://127.0.0.1/cb', 'https://app.example/*']
  t.same(
    read({ ...good, redirect_uris }).redirectUris,
    ['http://127.0.0.1/cb'],
    'only addresses that may be registered',
  )
  for (const more of [
    {
      token_endpoint_auth_method: 'none',
      grant_types: ['refresh_token', 'authorization_code'],
      response_types: ['code'],
    },
    { scope: 'openid', logo_uri: 'http://127.0.0.1/logo', jwks_uri: 'file:///etc/passwd', more: { a: 1 } },
  ])
    t.same(read({ ...good, ...more }).redirectUris, good.redirect_uris)

  const bad: [members: unknown, why: RegExp][] = [
    ...[null, [], 'a', 1, [good]].map((value) => [value, /no JSON object/] as [unknown, RegExp]),
    [{ redirect_uris: good.redirect_uris }, /client_id is another/],
    [{ ...good, client_id: `${id}/` }, /client_id is another/],
    [{ ...good, client_id: 'https://bank.example/client.json' }, /client_id is another/],
    [{ ...good, client_secret: 'a' }, /client_secret/],
    [{ ...good, client_secret_expires_at: 0 }, /client_secret_expires_at/],
    [{ ...good, token_endpoint_auth_method: 'client_secret_basic' }, /token_endpoint_auth_method/],
    [{ ...good, token_endpoint_auth_method: 'private_key_jwt' }, /token_endpoint_auth_method/],
    [{ ...good, grant_types: ['client_credentials'] }, /authorization_code/],
    [{ ...good, response_types: ['token'] }, /code/],
    [{ client_id: id }, /redirect_uris/],
    [{ ...good, redirect_uris: 'https://app.example/cb' }, /redirect_uris/],
    [{ ...good, redirect_uris: Array(51).fill('https://app.example/cb') }, /more than 50/],
    [{ ...good, redirect_uris: ['javascript:alert(1)', 'http://app.example/cb'] }, /can be used/],
  ]
  for (const [members, why] of bad) t.throws(() => read(members as object), { message: why }, JSON.stringify(members))
  const twice = `{"client_id":"https://bank.example/","client_id":${JSON.stringify(id)},"redirect_uris":["https://a.example"]}`
  for (const text of ['', '{', '<html>', '\ufeff{}', twice]) t.throws(() => readMetadata(id, Buffer.from(text)), text)
})

onOneStore(
  'a browser that comes from an app by the URL of its metadata is let in, and is sent nowhere else',
  async (t, build) => {
    const site = await serveDocument(t)
    site.members['redirect_uris'] = ['https://app.example/cb', 'http://127.0.0.1/cb']
    const { app } = await build(settings)
    t.ok(await isLetIn(app, site.id))
    t.ok(await isLetIn(app, site.id, 'http://127.0.0.1:49152/cb'), 'any port of this device')
    for (const other of [
      'https://evil.example/cb',
      'https://app.example/cb/',
      'http://localhost/cb',
      'http://127.0.0.1/cb/x',
    ])
      t.match(await authorize(app, site.id, other), { statusCode: 400, to: '' }, other)
    t.equal((await app.inject({ url: `/authorize?client_id=${site.id}&response_type=code` })).statusCode, 400)
    t.equal(site.asked.length, 1, 'asked once')
    const { access_token: _, ...refused } = json(
      await postForm(app, '/token', { grant_type: 'client_credentials', client_id: site.id }),
    )
    t.match(refused, { error: 'unauthorized_client' }, 'it gets nothing without a user')
    const query = new URLSearchParams({
      client_id: site.id,
      redirect_uri: 'https://app.example/cb',
      response_type: 'code',
    })
    const without = await app.inject({ url: `/authorize?${query}` })
    t.match(
      String(without.headers['location']),
      /^https:\/\/app\.example\/cb\?.*error=invalid_request/,
      'nor without PKCE',
    )
  },
)

onOneStore(
  'what an app serves that is not its metadata is a page, and `latchkey explain` knows why',
  async (t, build) => {
    const site = await serveDocument(t)
    const test = await build({ ...settings, AUTH_THROTTLE: 'off' })
    const { app, clock, logs } = test
    const end = (response: ServerResponse, status: number, headers: Record<string, string> = asJson) =>
      response.writeHead(status, headers).end(JSON.stringify({ client_id: site.id, ...site.members }))
    const cases: [what: string, serve: Serve, why: RegExp][] = [
      [
        'a redirect to another place',
        (_, response) => end(response, 302, { ...asJson, location: '/other' }),
        /answer was 302/,
      ],
      ['not there', (_, response) => end(response, 404), /answer was 404/],
      ['another success', (_, response) => end(response, 203), /answer was 203/],
      ['a page', (_, response) => end(response, 200, { 'content-type': 'text/html' }), /content type/],
      [
        'a file that somebody left there',
        (_, response) => end(response, 200, { 'content-type': 'text/plain' }),
        /content type/,
      ],
      ['huge', (_, response) => response.writeHead(200, asJson).end(`{"a":"${'a'.repeat(5_200)}"}`), /5120 bytes/],
      ['gone in between', (_, response) => response.destroy(), /./],
      ['another app', (_, response) => response.writeHead(200, asJson).end('{"client_id":"https://a/b"}'), /another/],
    ]
    for (const [what, serve, why] of cases) {
      site.serve = serve
      clock.passedMs = (clock.passedMs ?? 0) + 11_000
      const answer = await authorize(app, site.id)
      t.match(answer, { statusCode: 400, to: '' }, what)
      const line = logs.find(({ reqId, reason }) => reqId === answer.id && typeof reason === 'string')
      t.match(line, { reason: why }, what)
    }
    t.notOk(site.asked.includes('/other'), 'no redirect is followed')
    site.serve = undefined
    clock.passedMs = (clock.passedMs ?? 0) + 11_000
    t.ok(await isLetIn(app, site.id), 'and it is let in once that is mended')
  },
)

onOneStore('one request to an app for all who wait; what it said is kept for as long as it says', async (t, build) => {
  const site = await serveDocument(t)
  const test = await build(settings)
  const { app, clock } = test
  const later = (ms: number) => {
    clock.passedMs = (clock.passedMs ?? 0) + ms
  }
  const waiting: (() => void)[] = []
  site.serve = (_, response) => {
    waiting.push(() => response.writeHead(200, asJson).end(JSON.stringify({ client_id: site.id, ...site.members })))
  }
  const all = Promise.all(Array.from({ length: 30 }, () => isLetIn(app, site.id)))
  while (waiting.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  for (const answer of waiting) answer()
  t.same([...new Set(await all)], [true])
  t.equal(site.asked.length, 1)

  site.serve = undefined
  const asksAfter = async (ms: number) => {
    later(ms)
    const before = site.asked.length
    t.ok(await isLetIn(app, site.id))
    return site.asked.length > before
  }
  const [second, minute, hour] = [1_000, 60_000, 3_600_000]
  t.notOk(await asksAfter(59 * minute), 'an hour, where it says nothing')
  site.headers = { ...asJson, 'cache-control': 'max-age=7200, public' }
  t.ok(await asksAfter(2 * minute))
  t.notOk(await asksAfter(119 * minute), 'what it says')
  site.headers = { ...asJson, 'cache-control': 'max-age=99999999' }
  t.ok(await asksAfter(2 * minute))
  t.notOk(await asksAfter(23 * hour))
  site.headers = { ...asJson, 'cache-control': 'no-store' }
  t.ok(await asksAfter(2 * hour), 'a day at most')
  t.notOk(await asksAfter(59 * second), 'a minute at least')
  t.ok(await asksAfter(2 * second))

  site.serve = (_, response) => response.writeHead(500).end()
  later(2 * minute)
  for (let i = 0; i < 5; i++) t.equal((await authorize(app, site.id)).statusCode, 400, 'and not what it said before')
  const failed = site.asked.length
  later(9 * second)
  await authorize(app, site.id)
  t.equal(site.asked.length, failed, 'a failure is asked for again after ten seconds')
  site.serve = undefined
  later(2 * second)
  t.ok(await isLetIn(app, site.id))
})

onOneStore('strangers cannot have the service ask whatever they like', async (t, build) => {
  const site = await serveDocument(t)
  const test = await build({ AUTH_CIMD: 'on' })
  const { app: guarded } = test
  for (const id of [
    ...[site.id, site.id.replace('http:', 'https:'), 'https://localhost/c', 'https://169.254.169.254/latest/meta-data'],
    ...[
      'https://[::1]/c',
      'https://[::ffff:127.0.0.1]/c',
      'https://10.0.0.1/c',
      'http://app.example/c',
      'https://app.example',
    ],
  ])
    t.match(await authorize(guarded, id), { statusCode: 400, to: '' }, id)
  t.same(site.asked, [], 'nothing that is not public')

  const open = await test.restart(settings)
  const many = await Promise.all(Array.from({ length: 60 }, (_, i) => authorize(open.app, `${site.origin}/${i}`)))
  const answered = many.filter(({ statusCode }) => statusCode === 303).length
  t.ok(answered <= 30 && site.asked.length <= 30, `30 a minute of one host: ${answered}, ${site.asked.length}`)
  t.ok(answered > 0)
  open.clock.passedMs = 61_000
  t.ok(await isLetIn(open.app, `${site.origin}/later`))

  // A wrong secret is counted for a client that is there.
  const before = (await storeOf(open.app).exportRows('failures', { limit: 100 })).rows.length
  for (let i = 0; i < 5; i++) {
    const form = {
      grant_type: 'refresh_token',
      refresh_token: 'a',
      client_id: `${site.origin}/${i}`,
      client_secret: 'a',
    }
    isOAuthError(t, await postForm(open.app, '/token', form), 401, 'invalid_client')
  }
  const { rows } = await storeOf(open.app).exportRows('failures', { limit: 100 })
  t.notOk(
    rows.slice(before).some((row) => JSON.stringify(row).includes(site.origin)),
    'ids that can be made up fill nothing',
  )
})

t.test('a name that turns into a private address is not asked, and nobody is waited for without end', async (t) => {
  const site = await serveDocument(t)
  const findBy = async (fetch: FastifyInstance['guardedFetch'], id: string) => {
    const clients = { find: async () => unregisteredClient(id, undefined, 0) } as unknown as FastifyInstance['clients']
    const { find } = createClientMetadata({ clients, guardedFetch: fetch, uptimeMs: () => performance.now() })
    return find(id).catch((error) => error.checks[0].seen)
  }
  const { fetch, close } = createGuardedFetch([], (async () => [{ address: '127.0.0.1', family: 4 }]) as never)
  t.teardown(close)
  t.match(await findBy(fetch, site.id.replace('http://127.0.0.1', 'https://app.example')), /turns into 127\.0\.0\.1/)
  t.same(site.asked, [])

  const bounds: unknown[] = []
  const silence = async (_: URL, { withinMs, mostBytes }: GuardedRequest) => {
    bounds.push({ withinMs, mostBytes })
    throw new FetchFailed('no answer')
  }
  t.equal(await findBy(silence, 'https://app.example/c'), 'no answer')
  t.same(bounds, [{ withinMs: 5_000, mostBytes: 5_120 }])
})

overStores(
  'what an administrator has registered under the URL holds, and what such apps may have is decided once',
  async (t, build) => {
    const site = await serveDocument(t)
    const { app, call, restart } = Object.assign(await administered(build, settings), {})
    t.ok(await isLetIn(app, site.id))
    t.match(await app.clients.find(site.id), { scopes: [], audience: [], consent: 'ask', type: 'public' })

    const template = {
      client_id: anyAppId,
      type: 'public',
      scopes: ['files:read', 'admin'],
      audience: ['https://mcp.example'],
    }
    t.match(json(await call('POST', '/admin/clients', { client_id: anyAppId })).errors, [{ pointer: '/type' }])
    t.equal((await call('POST', '/admin/clients', template)).statusCode, 201)
    const found = await app.clients.find(site.id)
    t.match(found, { scopes: ['files:read'], audience: ['https://mcp.example'] }, 'all of that but administration')
    await call('POST', `/admin/clients/${encodeURIComponent(anyAppId)}/disable`)
    t.match(await authorize(app, site.id), { statusCode: 400 }, 'none is let in any more')
    await call('POST', `/admin/clients/${encodeURIComponent(anyAppId)}/enable`)
    t.ok(await isLetIn(app, site.id))

    await makeClient(app, {
      id: site.id,
      type: 'public',
      redirectUris: ['https://own.example/cb'],
      grants: ['authorization_code'],
    })
    t.ok(await isLetIn(app, site.id, 'https://own.example/cb'))
    t.match(await authorize(app, site.id), { statusCode: 400 }, 'not what its metadata says')
    await app.clients.disable(app, site.id)
    t.match(await authorize(app, site.id, 'https://own.example/cb'), { statusCode: 400 }, 'nor at all')

    const other = `${site.origin}/other.json`
    const named = await restart({ AUTH_CIMD: 'app.example, 127.0.0.1' })
    t.ok(await isLetIn(named.app, other), 'of a host that is named')
    site.asked.length = 0
    for (const [what, changed] of Object.entries({
      'of another host': { AUTH_CIMD: 'app.example' },
      'while it is off': { AUTH_CIMD: 'off' },
    })) {
      const { app } = await named.restart(changed)
      t.match(await authorize(app, other), { statusCode: 400 }, what)
      t.same(site.asked, [], what)
      t.equal(await app.clients.find(other), undefined, what)
    }
  },
)

overStores('an app that nobody has registered signs people in, and asks them each time', async (t, build) => {
  const site = await serveDocument(t)
  const test = await build({ ...settings, AUTH_AUDIENCE: 'https://mcp.example/mcp' })
  const { app } = test
  await signUp(app)
  const browser = openBrowser(app)
  const [client_id, redirect_uri] = [site.id, 'https://app.example/cb']
  const code_verifier = 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk'
  const url = (more: Record<string, string> = {}) => {
    const pkce = { code_challenge, code_challenge_method: 'S256' }
    return `/authorize?${new URLSearchParams({ client_id, redirect_uri, response_type: 'code', ...pkce, ...more })}`
  }
  const asked = { scope: 'openid offline_access files:read', resource: 'https://mcp.example/mcp' }
  const page = await browser.signIn('ada', undefined, await browser.open(url(asked)))
  t.match(page.url, /^\/consent/)
  t.match(page.body, 'Ada’s App (127.0.0.1:', 'with the host that the name is from')
  const { code = '' } = answerOf(await browser.submit(page, { decision: 'allow' }))
  const times = site.asked.length
  const form = { grant_type: 'authorization_code', code, redirect_uri, client_id, code_verifier }
  const tokens = json(await postForm(app, '/token', form))
  t.match(tokens, { scope: 'openid offline_access', refresh_token: String, id_token: String })
  t.match(claimsOf(tokens.access_token), { client_id, aud: 'https://mcp.example/mcp' })

  t.match((await browser.open(url(asked))).url, /^\/consent/, 'what was allowed is not remembered')
  const silent = answerOf(await browser.request('GET', url({ ...asked, prompt: 'none' })))
  t.match(silent, { to: redirect_uri, error: 'consent_required' })

  // Its host is gone, and the service has started anew.
  site.serve = (_, response) => response.destroy()
  const { app: after } = await test.restart()
  const refresh = (more: Record<string, string> = {}) =>
    postForm(after, '/token', { grant_type: 'refresh_token', refresh_token: tokens.refresh_token, client_id, ...more })
  const next = json(await refresh())
  t.match(next, { access_token: String, scope: 'openid offline_access' }, 'its sessions do not need it')
  t.equal((await withToken(after, next.access_token, { url: '/userinfo' })).statusCode, 200)
  t.equal(site.asked.length, times, 'nothing is fetched for tokens')
  isOAuthError(
    t,
    await refresh({ client_id: `${site.origin}/other.json` }),
    400,
    'invalid_grant',
    'nor is it another’s',
  )

  await makeClient(after, { id: client_id, type: 'public', redirectUris: [redirect_uri], grants: ['refresh_token'] })
  isOAuthError(t, await refresh(), 400, 'invalid_grant', 'sessions are not those of a client that is registered since')
})
