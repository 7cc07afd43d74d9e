import { createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import * as oauth4webapi from 'oauth4webapi'
import { allowInsecureRequests, discovery } from 'openid-client'
import type { Test } from 'tap'
import { makeClient, tokenOf } from '../support/client-helper.ts'
import { json, listen, onOneStore, password, sendRaw } from '../support/helper.ts'

/* An issuer with a path: a proxy in front takes the path away, and everything that goes out has it. */

const oauth = '/.well-known/oauth-authorization-server'
const openId = '/.well-known/openid-configuration'

/** Read to the end: what nobody reads would keep the service from closing. */
async function statusOf(url: URL | string, init?: RequestInit): Promise<number> {
  const response = await fetch(url, init)
  await response.arrayBuffer()
  return response.status
}

/** A proxy that serves what is behind it below a path, and nothing else but the metadata of RFC 8414 §3.1. */
async function startProxy(t: Test, prefix: string): Promise<{ origin: string; behind: (target: string) => void }> {
  let target = ''
  const proxy = createServer((request, response) => {
    const { url = '', method, headers } = request
    const path = url.startsWith('/.well-known/')
      ? url
      : url.startsWith(`${prefix}/`)
        ? url.slice(prefix.length)
        : undefined
    if (path === undefined) return void response.writeHead(418).end()
    const onward = httpRequest(target + path, { method: method as string, headers }, (answer) => {
      response.writeHead(answer.statusCode as number, answer.rawHeaders)
      answer.pipe(response)
    })
    request.pipe(onward)
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  t.teardown(() => proxy.close())
  return {
    origin: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    behind: (origin) => {
      target = origin
    },
  }
}

onOneStore(
  'behind a proxy that takes a path away, pages, their assets, Location and metadata work, contract §4',
  async (t, build) => {
    const proxy = await startProxy(t, '/auth')
    const issuer = `${proxy.origin}/auth`
    const { app } = await build({ AUTH_ISSUER: issuer })
    proxy.behind(await listen(app))

    const posted = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ username: 'ada', password }),
    }
    const created = await fetch(`${issuer}/signup`, posted)
    t.equal(created.status, 201)
    const profile = new URL(created.headers.get('location') as string, created.url)
    t.equal(profile.href, `${issuer}/users/me`)
    t.equal(await statusOf(profile), 401, 'and it is there')
    const admin = await tokenOf(app, await makeClient(app, { id: 'orders', scopes: ['admin'] }), { scope: 'admin' })
    const headers = { authorization: `Bearer ${admin}`, 'content-type': 'application/json' }
    for (const [path, body] of [
      ['/admin/users', { username: 'bob', password }],
      ['/admin/clients', { client_id: 'a/b:c' }],
    ] as const) {
      const made = await fetch(issuer + path, { method: 'POST', headers, body: JSON.stringify(body) })
      t.equal(await statusOf(new URL(made.headers.get('location') as string, made.url), { headers }), 200, path)
    }

    for (const path of ['/docs', '/docs/', '/docs/static/index.html', '/docs/static/index.html?x']) {
      const page = await fetch(issuer + path)
      t.equal(page.status, 200, path)
      t.equal(page.url, `${issuer}/docs/`)
      const assets = [...(await page.text()).matchAll(/(?:href|src)="([^"]+)"/g)].map(
        ([, asset = '']) => new URL(asset, page.url),
      )
      t.ok(assets.length > 5)
      for (const asset of assets) t.equal(await statusOf(asset), 200, asset.href)
    }
    const document = (await (await fetch(`${issuer}/docs/json`)).json()) as {
      servers: { url: string }[]
      components: never
    }
    t.equal(
      new URL(document.servers[0]?.url as string, `${issuer}/docs/json`).href,
      issuer,
      'the API is called below the path',
    )
    const { tokenUrl } = (
      document.components as { securitySchemes: { login: { flows: { password: { tokenUrl: string } } } } }
    ).securitySchemes.login.flows.password
    t.equal(new URL(tokenUrl, issuer).href, `${issuer}/token`)

    for (const algorithm of ['oauth2', 'oidc'] as const) {
      const found = await oauth4webapi.processDiscoveryResponse(
        new URL(issuer),
        await oauth4webapi.discoveryRequest(new URL(issuer), { algorithm, [oauth4webapi.allowInsecureRequests]: true }),
      )
      t.equal(found.token_endpoint, `${issuer}/token`, `oauth4webapi, ${algorithm}`)
      const config = await discovery(new URL(issuer), 'first-party', undefined, undefined, {
        algorithm,
        execute: [allowInsecureRequests],
      })
      t.equal(config.serverMetadata().jwks_uri, `${issuer}/.well-known/jwks.json`, `openid-client, ${algorithm}`)
    }
    const metadata = (await (await fetch(`${proxy.origin}${oauth}/auth`)).json()) as {
      service_documentation: string
      jwks_uri: string
    }
    for (const url of [metadata.service_documentation, metadata.jwks_uri]) t.equal(await statusOf(url), 200, url)
  },
)

const paths = [
  '/a%20b',
  '/t:1',
  '/:id',
  '/*',
  '/a(b)',
  '/(.*)',
  '/ä',
  "/a'b;c=1,d",
  '/a%2Fb',
  '/100%25',
  '/a/b/c',
  '/auth/',
  '/a%2e',
  '/token',
]

onOneStore(
  'the metadata is found at exactly the path of the issuer, whatever characters that has, RFC 8414 §3.1',
  async (t, build) => {
    for (const path of paths) {
      const issuer = `https://example.com${path}`
      const { app } = await build({ AUTH_ISSUER: issuer })
      const origin = await listen(app)
      const ask = async (target: string, method = 'GET') => {
        const answer = await sendRaw(origin, `${method} ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
        return [Number(answer.slice(9, 12)), answer] as const
      }
      const sent = new URL(issuer).pathname.replace(/\/$/, '')
      for (const good of [oauth + sent, openId + sent, sent + openId, oauth, openId, `${oauth}${sent}?x=1`]) {
        const [status, answer] = await ask(good)
        t.equal(status, 200, good)
        t.ok(Buffer.from(answer, 'latin1').toString().includes(JSON.stringify(issuer)), `the issuer of ${good}`)
        t.equal((await ask(good, 'HEAD'))[0], 200, good)
        t.equal((await ask(good, 'POST'))[0], 405, good)
      }
      for (const bad of [
        'x',
        '/x',
        `${sent}x`,
        `${sent}/`,
        `${sent}/x`,
        `/x${sent}`,
        sent.slice(0, -1),
        '/',
        sent.replace(/[A-Za-z]/, 'Z'),
      ]) {
        if (bad === sent || bad === '') continue
        // Half an escape is no URL.
        const status = /%(?![0-9a-f]{2})/i.test(bad) ? 400 : 404
        t.equal((await ask(oauth + bad))[0], status, oauth + bad)
        t.equal((await ask(openId + bad))[0], status, openId + bad)
      }
      const created = await app.inject({ method: 'POST', url: '/signup', payload: { username: 'ada', password } })
      t.equal(created.headers['location'], `${sent}/users/me`)
      t.equal(new URL(created.headers['location'] as string, issuer).href, `https://example.com${sent}/users/me`)
      t.equal((await app.inject({ url: '/livez' })).statusCode, 200)
      await app.close()
    }
  },
)

onOneStore('nothing in the metadata is empty, contract §4', async (t, build) => {
  for (const settings of [{}, { AUTH_PASSWORD_GRANT: 'off' }] as Record<string, string>[]) {
    const { app } = await build(settings)
    const [plain, openid] = [await app.inject({ url: oauth }), await app.inject({ url: openId })]
    t.same(json(openid), json(plain), 'one truth at both places')
    t.equal(openid.headers['cache-control'], 'public, max-age=300')
    const empty = Object.entries(json(plain)).filter(
      ([, value]) => value === '' || value === null || (Array.isArray(value) && value.length === 0),
    )
    t.same(empty, [])
  }
})
