import { basic, makeClient, tokenOf } from '../support/client-helper.ts'
import { json, logIn, onOneStore, signUp } from '../support/helper.ts'

/* A query that demands or narrows something: what is not understood of it is 400, and never left away. */

const sessionPosition = 'MTcwMDAwMDAwMDAwMC8wMTk4ZjNjZS00YjdlLTRmM2EtOWQxYy02YTFmMmUzZDRjNWI'

/** What may be asked of the routes that answer to a query, and a good value of each. */
const taken: Record<string, Record<string, string>> = {
  '/verify': { scope: 'a', audience: 'http://localhost:3000', role: 'editor' },
  '/revocations': { since: '1' },
  '/users/me/sessions': { limit: '10', after: sessionPosition, cursor: sessionPosition },
  '/admin/users': {
    ...{ limit: '10', after: 'YQ', cursor: 'YQ' },
    ...{ username: 'ada', prefix: 'ad', created_after: '2026-11-21T09:00:00Z' },
  },
  '/admin/audit': {
    ...{ limit: '10', after: '01a21580-609b-7000-84cf-601e3824f064', event: 'login.failed', since: '1h' },
    ...{ user: 'ada', client: 'app', session: '0290c809-33b8-4c15-85ba-631244d1d9f9' },
  },
  '/users/me/audit': {
    ...{ limit: '10', after: '01a21580-609b-7000-84cf-601e3824f064', event: 'login.failed', since: '1h' },
    session: '0290c809-33b8-4c15-85ba-631244d1d9f9',
  },
  '/admin/clients': { limit: '10', after: 'YQ', cursor: 'YQ' },
  '/admin/users/:id/sessions': { limit: '10', after: sessionPosition, cursor: sessionPosition },
}

/**
 * Routes without a demand, which leave a query alone: load balancers and caches add members of their own to what they
 * poll, and RFC 6749 §3.1 has unknown ones ignored.
 */
const ignoring = new Set([
  ...[
    '/livez',
    '/readyz',
    '/openapi.json',
    '/pages/:name',
    '/protected',
    '/',
    '/authorize',
    '/consent',
    '/device',
    '/sign-in',
    '/sign-out',
    '/sign-up',
    '/userinfo',
    '/users/me',
    '/users/me/factors',
    '/admin/users/:id',
    '/admin/users/:id/factors',
    '/admin/clients/:id',
    '/admin/keys',
    '/admin/explain/:id',
    '/admin/webhooks',
  ],
  ...['/.well-known/jwks.json', '/.well-known/oauth-authorization-server', '/.well-known/openid-configuration'],
])

onOneStore(
  'a query member that is unknown, empty, blank or repeated is 400 wherever a query demands something, contract §4',
  async (t, build) => {
    const { app } = await build()
    const { id } = json(await signUp(app))
    const { access_token } = await logIn(app)
    const client = await makeClient(app, { id: 'orders', scopes: ['admin', 'a'], introspect: 'all' })
    const ofAdmin = await tokenOf(app, client, { scope: 'admin' })
    const headersFor = (url: string) => {
      if (url === '/revocations') return basic(client).headers
      return { authorization: `Bearer ${url.startsWith('/admin') ? ofAdmin : access_token}` }
    }
    const statusOf = async (url: string, query: string, method: 'GET' | 'HEAD' = 'GET') =>
      (await app.inject({ method, url: `${url.replace(':id', id)}?${query}`, headers: headersFor(url) })).statusCode

    const wrong: string[] = []
    for (const [url, members] of Object.entries(taken)) {
      const known = Object.keys(members)
      const bad = [
        'x=1',
        'x',
        '=',
        '=1',
        'scopes=a',
        'constructor=1',
        '__proto__=1',
        '__proto__[a]=1',
        'toString',
        '%00=1',
        'access_token=x',
      ]
      for (const [name, value] of Object.entries(members)) {
        const one = `${name}=${encodeURIComponent(value)}`
        bad.push(
          `${name}`,
          `${name}=`,
          `${name}=%20`,
          `${name}=+`,
          `${name}=%09`,
          `${name}=%00`,
          `${name}=%zz`,
          `${name}=%ff`,
        )
        bad.push(
          `${one}&${one}`,
          `${one}&${name}=`,
          `${name}[]=${value}`,
          `${name}[0]=${value}`,
          ` ${one}`,
          `${name.toUpperCase()}=${value}`,
        )
        bad.push(`${one}&x=1`, `${one};x=1&y`, `%${name.charCodeAt(0).toString(16)}${name.slice(1)}=a&${one}`)
      }
      for (const query of bad) {
        for (const method of ['GET', 'HEAD'] as const) {
          const status = await statusOf(url, query, method)
          // A member of another route may be unknown here, and a member in other spelling.
          if (status !== 400) wrong.push(`${method} ${url}?${query}: ${status}`)
        }
      }
      for (const name of known) {
        const status = await statusOf(url, `${name}=${encodeURIComponent(members[name] as string)}`)
        if (status === 400 || status >= 500) wrong.push(`${url} with a good ${name}: ${status}`)
      }
      for (const query of ['', '&', '&&'])
        if ((await statusOf(url, query)) === 400) wrong.push(`${url}?${query} is no demand`)
    }
    t.same(wrong, [])

    const demands = [...app.knownPaths].filter(
      ([url, { methods }]) => methods.has('GET') && !/^\/(docs|account)/.test(url) && !ignoring.has(url),
    )
    t.same(
      demands.map(([url]) => url).sort(),
      Object.keys(taken).sort(),
      'each route either refuses or has nothing to refuse',
    )
    for (const url of ['/livez', '/readyz', '/.well-known/jwks.json', '/protected'])
      t.equal(await statusOf(url, 'x=1&x=1'), 200, url)
  },
)

onOneStore(
  'GET /verify takes no demand that it does not understand, and answers those that it does',
  async (t, build) => {
    const { app } = await build()
    const client = await makeClient(app, { id: 'orders', scopes: ['read', 'write'] })
    const token = await tokenOf(app, client, { scope: 'read write' })
    const verify = async (query: string) =>
      (await app.inject({ url: `/verify${query}`, headers: { authorization: `Bearer ${token}` } })).statusCode
    const expected: Record<string, number> = {
      '': 204,
      '?scope=read': 204,
      '?scope=read%20write': 204,
      '?scope=write+read': 204,
      '?scope=read%20admin': 403,
      '?scope=admin': 403,
      '?role=admin': 403,
      '?scope=read&role=admin': 403,
      '?audience=http://localhost:3000': 204,
      '?audience=https://other.example': 401,
      '?scope=read&scope=write': 400,
      '?scope=read,write': 403,
      '?scope=%20read': 400,
      '?scope=read%20': 400,
      '?scope=read%20%20write': 400,
      '?scope=r%22': 400,
      '?scope=%C3%A9': 400,
      '?role=a,b': 400,
      '?role=a%20b': 400,
      '?scope': 400,
      '?scopes=read': 400,
      '?Scope=read': 400,
      '?roles=admin': 400,
      '?aud=x': 400,
    }
    for (const [query, status] of Object.entries(expected)) t.equal(await verify(query), status, query)
  },
)
