import { writeFile } from 'node:fs/promises'
import { administered, isProblem } from '../support/admin.ts'
import { openBrowser } from '../support/browser.ts'
import { isOAuthError, makeClient, writeClients } from '../support/client-helper.ts'
import { claimsOf, json, onOneStore, overStores, password, postForm, signUp } from '../support/helper.ts'

/* Clients that people sign in to in a browser: what is decided of them. */

const defaults = {
  redirect_uris: [],
  post_logout_redirect_uris: [],
  pkce: 'required',
  consent: 'ask',
  id_token_alg: 'RS256',
  require_par: false,
}
const full = {
  name: 'Shop 상점',
  redirect_uris: ['https://shop.example/callback', 'http://localhost:5173/callback?a=b'],
  post_logout_redirect_uris: ['https://shop.example/', 'com.example.shop:/bye'],
  backchannel_logout_uri: 'https://shop.example/logout?from=latchkey',
  pkce: 'optional',
  consent: 'implicit',
  id_token_alg: 'EdDSA',
  require_par: true,
}

overStores('a client keeps what it was made with; what nobody has decided is strict', async (t, build) => {
  const { app, call } = await administered(build)
  const make = async (members: object) => json(await call('POST', '/admin/clients', members))
  const grants = ['authorization_code', 'refresh_token']
  t.match(await make({ client_id: 'shop', ...full }), { ...full, type: 'confidential', grants })
  t.match(json(await call('GET', '/admin/clients/shop')), { ...full, grants }, 'and is read as it was made')
  const { name: _, backchannel_logout_uri: __, ...rest } = full
  const plain = await make({ client_id: 'plain' })
  t.match(plain, { ...defaults, grants: ['client_credentials'] })
  t.same(
    Object.keys(plain)
      .filter((member) => member in full)
      .sort(),
    Object.keys(rest).sort(),
  )

  const redirect_uris = ['http://127.0.0.1/callback']
  t.match(await make({ client_id: 'desktop', type: 'public', redirect_uris }), { ...defaults, redirect_uris, grants })
  const given = { client_id: 'both', redirect_uris, grants: ['authorization_code', 'client_credentials'] }
  t.match(await make(given), { grants: given.grants }, 'grants that are named are those')
  t.match(await make({ client_id: 'own', type: 'public', first_party: true }), { consent: 'implicit' }, 'of your own')
  t.match(await make({ client_id: 'asks', first_party: true, consent: 'ask' }), { consent: 'ask' })
  t.match(await app.clients.find('desktop'), { redirectUris: redirect_uris })
})

onOneStore('what a client must not be is 400, and names the member and the reason', async (t, build) => {
  const { call } = await administered(build, { AUTH_FETCH_ALLOW: 'inside.example' })
  const bad: [members: object, pointer: string, why: RegExp][] = [
    [{ redirect_uris: ['http://shop.example/cb'] }, '/redirect_uris/0', /https:/],
    [{ redirect_uris: [...full.redirect_uris, 'https://shop.example/#'] }, '/redirect_uris/2', /fragment/],
    [{ redirect_uris: 'https://shop.example/cb' }, '/redirect_uris', /array/],
    [{ redirect_uris: [full.redirect_uris[0], full.redirect_uris[0]] }, '/redirect_uris', /duplicate/],
    [{ post_logout_redirect_uris: ['https://*.shop.example'] }, '/post_logout_redirect_uris/0', /wildcard/],
    [{ backchannel_logout_uri: 'http://shop.example/logout' }, '/backchannel_logout_uri', /http/],
    [{ backchannel_logout_uri: 'https://10.2.0.1/logout' }, '/backchannel_logout_uri', /no public address/],
    [{ backchannel_logout_uri: 'https://localhost/logout' }, '/backchannel_logout_uri', /this machine/],
    [{ backchannel_logout_uri: 'https://shop.example/logout#' }, '/backchannel_logout_uri', /fragment/],
    [{ backchannel_logout_uri: 'https://a:b@shop.example/logout' }, '/backchannel_logout_uri', /password/],
    [{ backchannel_logout_uri: '/logout' }, '/backchannel_logout_uri', /URL/],
    [{ type: 'public', pkce: 'optional' }, '/pkce', /public/],
    [{ pkce: 'plain' }, '/pkce', /./],
    [{ consent: 'none' }, '/consent', /./],
    [{ id_token_alg: 'none' }, '/id_token_alg', /./],
    [{ id_token_alg: 'HS256' }, '/id_token_alg', /./],
    [{ require_par: 'true' }, '/require_par', /./],
    [{ name: '' }, '/name', /./],
    [{ name: 'x'.repeat(101) }, '/name', /./],
    [{ name: ' Shop' }, '/name', /spaces/],
    [{ name: 'Shop\n' }, '/name', /control/],
    [{ name: 'Shop \u202egro.live' }, '/name', /control/],
  ]
  for (const [members, pointer, why] of bad) {
    const answer = await call('POST', '/admin/clients', { client_id: 'shop', ...members })
    await isProblem(t, answer, 400, 'invalid_request', JSON.stringify(members))
    t.match(json(answer).errors, [{ pointer, detail: why }], JSON.stringify(members))
  }
  const allowed = { client_id: 'shop', backchannel_logout_uri: 'http://inside.example:8080/logout' }
  t.equal((await call('POST', '/admin/clients', allowed)).statusCode, 201, 'what AUTH_FETCH_ALLOW names may be private')
})

overStores('a client is changed in what is sent, and its secret and its sessions stay', async (t, build) => {
  const { app, call, logs } = await administered(build)
  const { client_secret, ...made } = json(await call('POST', '/admin/clients', { client_id: 'shop', ...full }))
  const edit = (members: object, id = 'shop') => call('PATCH', `/admin/clients/${id}`, members)
  const redirect_uris = ['https://new.example/cb']
  t.same(json(await edit({ redirect_uris, scopes: ['a'] })), { ...made, redirect_uris, scopes: ['a'] })
  const none = { name: null, backchannel_logout_uri: null, require_par: false, consent: 'ask', introspect: true }
  const { name, backchannel_logout_uri, ...rest } = { ...made, redirect_uris, scopes: ['a'] }
  const plain = { ...rest, require_par: false, consent: 'ask', introspect: true }
  t.same(json(await edit(none)), plain, 'null takes away')
  t.same(json(await call('GET', '/admin/clients/shop')), plain)
  t.same(json(await edit({})), plain)
  t.equal(logs.filter(({ event, client_id }) => event === 'client.changed' && client_id === 'shop').length, 3)
  const grant = { grant_type: 'refresh_token', refresh_token: 'x', client_id: 'shop', client_secret }
  isOAuthError(t, await postForm(app, '/token', grant), 400, 'invalid_grant', 'the secret is the same')

  for (const [members, pointer] of [
    [{ redirect_uris: ['http://new.example/cb'] }, '/redirect_uris/0'],
    [{ type: 'public' }, '/type'],
    [{ client_id: 'other' }, '/client_id'],
    [{ scopes: null }, '/scopes'],
    [{ backchannel_logout_uri: 'https://10.0.0.1' }, '/backchannel_logout_uri'],
  ] as const) {
    const answer = await edit(members)
    await isProblem(t, answer, 400, 'invalid_request', JSON.stringify(members))
    t.match(json(answer).errors, [{ pointer }])
  }
  await isProblem(t, await edit({ scopes: [] }, 'nobody'), 404, 'not_found', 'a client that is not there')
  await call('POST', '/admin/clients', { client_id: 'web', type: 'public' })
  t.match(json(await edit({ grants: ['client_credentials'] }, 'web')).errors, [{ pointer: '/grants' }])
  t.match(json(await edit({ pkce: 'optional' }, 'web')).errors, [{ pointer: '/pkce' }])
  const all = await Promise.all(Array.from({ length: 8 }, (_, i) => edit({ name: `Shop ${i}` })))
  t.same([...new Set(all.map(({ statusCode }) => statusCode))], [200], 'changes at once come one after the other')
})

onOneStore('an address that was taken from a client while somebody signs in gets no code', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const [redirect_uri, other] = ['https://shop.example/cb', 'https://shop.example/other']
  await makeClient(app, { id: 'shop', redirectUris: [redirect_uri, other], consent: 'implicit', pkce: 'optional' })
  await app.clients.edit(app, 'shop', { grants: ['authorization_code'] })
  const browser = openBrowser(app)
  const asked = new URLSearchParams({ client_id: 'shop', redirect_uri, response_type: 'code' })
  const page = await browser.open(`/authorize?${asked}`)
  await app.clients.edit(app, 'shop', { redirectUris: [other] })
  const answer = await browser.signIn('ada', undefined, page)
  t.equal(answer.statusCode, 400)
  t.equal(answer.headers['location'], undefined)
})

onOneStore('a declared client has what the file says at each start, and no more of before', async (t, build) => {
  const client = { client_id: 'shop', client_secret: 'of-the-shop'.padEnd(43, '-') }
  const path = await writeClients(t, [{ ...client, ...full }])
  const first = await build({ AUTH_CLIENTS_FILE: path })
  t.match(await first.app.store.findClient('shop'), {
    ...{ name: full.name, redirectUris: full.redirect_uris, postLogoutRedirectUris: full.post_logout_redirect_uris },
    ...{ backchannelLogoutUri: full.backchannel_logout_uri, pkce: 'optional', consent: 'implicit' },
    ...{ idTokenAlg: 'EdDSA', requirePar: true, grants: ['authorization_code', 'refresh_token'] },
  })
  await writeFile(path, JSON.stringify([{ ...client, redirect_uris: ['https://shop.example/cb'] }]))
  const { app } = await first.restart()
  const refused = app.clients.edit(app, 'shop', { name: 'Shop' })
  await t.rejects(refused, { code: 'invalid_request', detail: /AUTH_CLIENTS_FILE/ }, 'and nobody else changes it')
  const { secrets, createdAt, generation, ...rest } = (await app.store.findClient('shop')) ?? {}
  t.same(rest, {
    ...{ id: 'shop', type: 'confidential', scopes: [], audience: [], introspect: 'none', firstParty: false },
    ...{ isDeclared: true, grants: ['authorization_code', 'refresh_token'], redirectUris: ['https://shop.example/cb'] },
  })
})

onOneStore(
  'openid, profile, email and offline_access need not be in the scopes of a client, where a user signs in',
  async (t, build) => {
    const clients = [{ client_id: 'service', client_secret: 'of-the-service'.padEnd(43, '-'), scopes: ['a'] }]
    const AUTH_CLIENTS_FILE = await writeClients(t, clients)
    const test = await build({ AUTH_CLIENTS_FILE })
    await signUp(test.app)
    const scope = 'openid profile email offline_access'
    const login = { grant_type: 'password', username: 'ada', password }
    const given = json(await postForm(test.app, '/token', { ...login, scope }))
    t.same([given.scope, claimsOf(given.access_token)['scope']], [scope, scope])
    t.equal(json(await postForm(test.app, '/token', login)).scope, undefined, 'only where they are asked for')
    isOAuthError(t, await postForm(test.app, '/token', { ...login, scope: 'openid phone' }), 400, 'invalid_scope')
    const own = { grant_type: 'client_credentials', client_id: 'service', client_secret: clients[0]?.client_secret }
    const asked = await postForm(test.app, '/token', { ...own, scope: 'openid' } as Record<string, string>)
    isOAuthError(t, asked, 400, 'invalid_scope', 'nor where nobody signs in')
    const { app } = await test.restart({ AUTH_PAGES: 'off' })
    const off = await postForm(app, '/token', { ...login, scope })
    isOAuthError(t, off, 400, 'invalid_scope', 'nor without the pages')
  },
)
