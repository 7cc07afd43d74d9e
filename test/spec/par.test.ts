import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import type { ClientDefinition } from '../../domain/client.ts'
import { answerOf, openBrowser } from '../support/browser.ts'
import { basic, type Credentials, inForm, isOAuthError, makeClient } from '../support/client-helper.ts'
import { challengeOfVerifier } from '../support/factors.ts'
import { type Build, json, onOneApp, onOneStore, overStores, postForm } from '../support/helper.ts'

/* Pushed authorization requests, RFC 9126. */

const redirectUri = 'https://app.example/callback'
const request = {
  response_type: 'code',
  redirect_uri: redirectUri,
  scope: 'openid',
  state: 'xyz',
  code_challenge: challengeOfVerifier('v'.repeat(43)),
  code_challenge_method: 'S256',
}

const makeApp = (app: FastifyInstance, more: Partial<ClientDefinition> = {}) =>
  makeClient(app, { id: 'app', grants: ['authorization_code'], redirectUris: [redirectUri], ...more })

const push = (app: FastifyInstance, client: Credentials, fields: Record<string, string> = {}) =>
  postForm(app, '/par', { client_id: client.id, ...request, ...fields }, basic(client))

const pushed = async (app: FastifyInstance, client: Credentials, fields?: Record<string, string>): Promise<string> => {
  const answer = await push(app, client, fields)
  if (answer.statusCode !== 201) throw new Error(`not pushed: ${answer.body}`)
  return json(answer).request_uri
}

const authorize = (app: FastifyInstance, parameters: Record<string, string>) =>
  openBrowser(app).request('GET', `/authorize?${new URLSearchParams(parameters)}`)

/** Whether a request was taken: it leads to the sign-in. */
const isTaken = ({ statusCode, headers }: LightMyRequestResponse) =>
  statusCode === 303 && String(headers.location).startsWith('/sign-in?request=')

/** A page and no redirect. */
const isPage = ({ statusCode, headers }: LightMyRequestResponse) =>
  statusCode === 400 && headers.location === undefined && String(headers['content-type']).startsWith('text/html')

async function serve(build: Build) {
  const test = await build()
  return { ...test, client: await makeApp(test.app) }
}

overStores('a pushed request is good once, of fifty browsers at once one, for a minute', async (t, build) => {
  const { app, clock, client, beside: openBeside } = await serve(build)
  const { app: beside } = await openBeside()
  const answer = await push(app, client)
  t.match(json(answer), { request_uri: /^urn:ietf:params:oauth:request_uri:lkq_[\w-]{43}$/, expires_in: 60 })
  t.match([answer.statusCode, answer.headers['cache-control']], [201, 'no-store'])
  const named = { client_id: client.id, request_uri: json(answer).request_uri }
  t.ok(isTaken(await authorize(beside, named)), 'at any replica')
  t.ok(isPage(await authorize(app, named)), 'a second time it is a page')

  const another = { client_id: client.id, request_uri: await pushed(app, client) }
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => authorize(i % 2 ? app : beside, another)))
  t.equal(answers.filter(isTaken).length, 1)
  t.equal(answers.filter(isPage).length, 49)

  const late = { client_id: client.id, request_uri: await pushed(app, client) }
  clock.now += 60_000
  t.ok(isPage(await authorize(app, late)))
  const rows = JSON.stringify(await app.store.exportRows('records', { limit: 100 }))
  t.notOk(rows.includes(late.request_uri.slice(-43)), 'the store has no name that can be used')
})

const one = onOneApp(async (_t, build) => serve(build))

one('it is for its client alone, who is not kept from it by others', async (t, { app, client }) => {
  await makeApp(app, { id: 'other', type: 'public' })
  const request_uri = await pushed(app, client)
  t.ok(isPage(await authorize(app, { client_id: 'other', request_uri })))
  t.ok(isPage(await authorize(app, { request_uri })), 'the client_id has to stand beside it (RFC 9126 §4)')
  t.ok(isPage(await authorize(app, { client_id: client.id, request_uri: `${request_uri}x` })))
  t.ok(isTaken(await authorize(app, { client_id: client.id, request_uri })))
})

one('what stands beside its name is ignored', async (t, { app, client }) => {
  const named = { client_id: client.id, request_uri: await pushed(app, client, { prompt: 'none' }) }
  const beside = { redirect_uri: 'https://evil.example/', state: 'forged', prompt: 'login', response_type: 'token' }
  t.match(answerOf(await authorize(app, { ...named, ...beside })), {
    ...{ to: redirectUri, error: 'login_required', state: 'xyz', iss: 'http://localhost:3000' },
  })
  const korean = { client_id: client.id, request_uri: await pushed(app, client, { ui_locales: 'ko' }) }
  t.match((await authorize(app, korean)).headers.location, /&ui_locales=ko$/, 'the language was pushed as well')
})

one('the client shows who it is as at /token', async (t, { app, client }) => {
  const fields = { ...request, client_id: client.id }
  isOAuthError(t, await postForm(app, '/par', fields), 401, 'invalid_client', 'without its secret')
  isOAuthError(t, await push(app, { ...client, secret: 'x' }), 401, 'invalid_client')
  isOAuthError(t, await postForm(app, '/par', { ...fields, client_id: 'nobody' }), 401, 'invalid_client')
  t.equal((await postForm(app, '/par', { ...request, ...inForm(client) })).statusCode, 201)
  t.equal((await postForm(app, '/par', request, basic(client))).statusCode, 201, 'the header names it, too')
  isOAuthError(t, await push(app, client, { client_id: 'other' }), 400, 'invalid_request')
  const rows = JSON.stringify(await app.store.exportRows('records', { limit: 100 }))
  t.notOk(rows.includes(client.secret), 'and the secret is not kept')
})

one('what /authorize would refuse is refused at once, to the client', async (t, { app, client }) => {
  const refused: [fields: Record<string, string>, error: string][] = [
    [{ redirect_uri: 'https://app.example/callback/' }, 'invalid_request'],
    [{ redirect_uri: '' }, 'invalid_request'],
    [{ response_type: '' }, 'invalid_request'],
    [{ response_type: 'token' }, 'unsupported_response_type'],
    [{ code_challenge: '', code_challenge_method: '' }, 'invalid_request'],
    [{ code_challenge_method: 'plain' }, 'invalid_request'],
    [{ prompt: 'none login' }, 'invalid_request'],
    [{ resource: 'https://x.example' }, 'invalid_target'],
    [{ request: 'e30.e30.' }, 'request_not_supported'],
    [{ request_uri: 'https://app.example/request' }, 'invalid_request'],
    [{ state: 'x'.repeat(10_000) }, 'invalid_request'],
  ]
  for (const [fields, error] of refused)
    isOAuthError(t, await push(app, client, fields), 400, error, JSON.stringify(fields).slice(0, 80))
  const machine = await makeClient(app, { id: 'machine' })
  isOAuthError(t, await push(app, machine), 400, 'invalid_request', 'a client without a redirect_uri')
})

one('require_par: only what was pushed is taken', async (t, { app }) => {
  const strict = await makeApp(app, { id: 'strict', requirePar: true })
  t.match(answerOf(await authorize(app, { client_id: 'strict', ...request })), {
    ...{ to: redirectUri, error: 'invalid_request', state: 'xyz' },
  })
  t.ok(isTaken(await authorize(app, { client_id: 'strict', request_uri: await pushed(app, strict) })))
})

one('the client is another by the time that the browser comes', async (t, { app }) => {
  const moved = await makeApp(app, { id: 'moved' })
  const request_uri = await pushed(app, moved)
  await app.clients.remove(app, 'moved')
  await makeApp(app, { id: 'moved', redirectUris: ['https://elsewhere.example/'] })
  t.ok(isPage(await authorize(app, { client_id: 'moved', request_uri })), 'it is read again')
})

onOneStore('AUTH_PAGES=off: there is no /par', async (t, build) => {
  const { app } = await build({ AUTH_PAGES: 'off' })
  t.equal((await postForm(app, '/par', request)).statusCode, 404)
})
