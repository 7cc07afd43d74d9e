import { createServer } from 'node:net'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'
import { ClientCredentials, ResourceOwnerPassword } from 'simple-oauth2'
import type { Test } from 'tap'
import { writeClients } from '../support/client-helper.ts'
import { type Build, claimsOf, isAccepted, json, logIn, onOneStore, password, signUp } from '../support/helper.ts'

/* Clients as people use them, over a real socket. */

const insecure = { [oauth.allowInsecureRequests]: true }
const client: oauth.Client = { client_id: 'first-party' }

/** The service, listening at its own issuer, with a user. */
async function serve(build: Build, settings: Record<string, string> = {}) {
  const port = await freePort()
  const issuer = `http://127.0.0.1:${port}`
  const test = await build({ AUTH_ISSUER: issuer, ...settings })
  await test.app.listen({ host: '127.0.0.1', port })
  await signUp(test.app)
  return { ...test, issuer: new URL(issuer), tokens: await logIn(test.app) }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

async function discover(issuer: URL): Promise<oauth.AuthorizationServer> {
  const response = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure })
  return oauth.processDiscoveryResponse(issuer, response)
}

/** What a promise is rejected with. */
const errorOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  )

/** A request as it comes to a service that takes our tokens. */
const requestWith = (accessToken: string) =>
  new Request('https://api.example/', { headers: { authorization: `Bearer ${accessToken}` } })

onOneStore('oauth4webapi discovers, logs in, refreshes, checks the JWT (RFC 9068) and revokes', async (t, build) => {
  const { issuer } = await serve(build)
  const as = await discover(issuer)
  const parameters = new URLSearchParams({ username: 'ada', password })
  const login = await oauth.genericTokenEndpointRequest(as, client, oauth.None(), 'password', parameters, insecure)
  const tokens = await oauth.processGenericTokenEndpointResponse(as, client, login)
  t.match(tokens, { access_token: String, refresh_token: String, token_type: 'bearer', expires_in: 600 })

  const refreshed = await oauth.refreshTokenGrantRequest(
    as,
    client,
    oauth.None(),
    tokens.refresh_token as string,
    insecure,
  )
  const next = await oauth.processRefreshTokenResponse(as, client, refreshed)
  t.not(next.refresh_token, tokens.refresh_token)

  const claims = await oauth.validateJwtAccessToken(as, requestWith(next.access_token), issuer.origin, insecure)
  t.match(claims, {
    iss: issuer.origin,
    aud: issuer.origin,
    client_id: 'first-party',
    sub: String,
    jti: String,
    sid: String,
  })
  await t.rejects(
    oauth.validateJwtAccessToken(as, requestWith(next.access_token), 'https://other.example', insecure),
    'for another audience',
  )

  const protectedResource = await oauth.protectedResourceRequest(
    next.access_token,
    'GET',
    new URL('/protected', issuer),
    undefined,
    undefined,
    insecure,
  )
  t.match(await protectedResource.json(), { message: 'Hello ada! This is a protected route' })

  const revocation = await oauth.revocationRequest(as, client, oauth.None(), next.refresh_token as string, insecure)
  await oauth.processRevocationResponse(revocation)
  const afterwards = await oauth.refreshTokenGrantRequest(
    as,
    client,
    oauth.None(),
    next.refresh_token as string,
    insecure,
  )
  t.match(await errorOf(oauth.processRefreshTokenResponse(as, client, afterwards)), { error: 'invalid_grant' })
  const refused = oauth.protectedResourceRequest(
    next.access_token,
    'GET',
    new URL('/protected', issuer),
    undefined,
    undefined,
    insecure,
  )
  const parsed = {
    scheme: 'bearer',
    parameters: { realm: 'latchkey', error: 'invalid_token', error_description: 'The access token was revoked' },
  }
  t.match(await errorOf(refused), { cause: [parsed] }, 'and the challenge can be parsed')
})

onOneStore('oauth4webapi is told each failure by its code', async (t, build) => {
  const { issuer, tokens } = await serve(build)
  const as = await discover(issuer)
  const grant = async (type: string, parameters: Record<string, string>, auth = oauth.None(), by = client) => {
    const response = await oauth.genericTokenEndpointRequest(
      as,
      by,
      auth,
      type,
      new URLSearchParams(parameters),
      insecure,
    )
    return oauth.processGenericTokenEndpointResponse(as, by, response)
  }
  t.match(await errorOf(grant('password', { username: 'ada', password: 'wrong' })), { error: 'invalid_grant' })
  t.match(await errorOf(grant('password', { username: 'ada' })), { error: 'invalid_request' })
  t.match(await errorOf(grant('urn:example:unknown', {})), { error: 'unsupported_grant_type' })
  t.match(await errorOf(grant('refresh_token', { refresh_token: tokens.refresh_token, scope: 'admin' })), {
    error: 'invalid_scope',
  })
  t.match(await errorOf(grant('password', {}, oauth.ClientSecretPost('secret'), { client_id: 'another' })), {
    error: 'invalid_client',
  })
  const byBasic = grant('password', {}, oauth.ClientSecretBasic('secret'), { client_id: 'another' })
  t.match(await errorOf(byBasic), { cause: [{ scheme: 'basic', parameters: { realm: 'latchkey' } }] })
})

onOneStore('oauth4webapi and openid-client trade the code of /challenge, with PKCE', async (t, build) => {
  const { issuer } = await serve(build)
  const as = await discover(issuer)
  const signIn = async (code_challenge: string): Promise<string> => {
    const body = new URLSearchParams({ username: 'ada', password, code_challenge, code_challenge_method: 'S256' })
    const response = await fetch(String(as['authorization_challenge_endpoint']), { method: 'POST', body })
    return ((await response.json()) as { authorization_code: string }).authorization_code
  }
  const code_verifier = oauth.generateRandomCodeVerifier()
  const code_challenge = await oauth.calculatePKCECodeChallenge(code_verifier)
  const trade = async (parameters: Record<string, string>) => {
    const sent = new URLSearchParams(parameters)
    const auth = oauth.None()
    const answer = await oauth.genericTokenEndpointRequest(as, client, auth, 'authorization_code', sent, insecure)
    return oauth.processGenericTokenEndpointResponse(as, client, answer)
  }
  const code = await signIn(code_challenge)
  t.match(await errorOf(trade({ code })), { error: 'invalid_grant' }, 'without the verifier')
  t.match(await trade({ code, code_verifier }), { access_token: String, refresh_token: String, token_type: 'bearer' })

  const config = await openid.discovery(issuer, 'first-party', undefined, openid.None(), {
    algorithm: 'oauth2',
    execute: [openid.allowInsecureRequests],
  })
  const another = { code: await signIn(code_challenge), code_verifier }
  const tokens = await openid.genericGrantRequest(config, 'authorization_code', another)
  t.match(await openid.refreshTokenGrant(config, tokens.refresh_token as string), { access_token: String })
})

onOneStore('openid-client discovers, logs in, refreshes and revokes', async (t, build) => {
  const { issuer } = await serve(build)
  const options = { algorithm: 'oauth2', execute: [openid.allowInsecureRequests] } as const
  const config = await openid.discovery(issuer, 'first-party', undefined, openid.None(), {
    ...options,
    execute: [...options.execute],
  })
  t.equal(config.serverMetadata().issuer, issuer.origin)

  const tokens = await openid.genericGrantRequest(config, 'password', { username: 'ada', password })
  t.equal(tokens.expires_in, 600)
  const next = await openid.refreshTokenGrant(config, tokens.refresh_token as string)
  t.not(next.refresh_token, tokens.refresh_token)
  const greeting = await openid.fetchProtectedResource(config, next.access_token, new URL('/protected', issuer), 'GET')
  t.equal(greeting.status, 200)

  await openid.tokenRevocation(config, next.access_token, { token_type_hint: 'access_token' })
  t.match(
    await errorOf(openid.fetchProtectedResource(config, next.access_token, new URL('/protected', issuer), 'GET')),
    { status: 401 },
  )
  await openid.tokenRevocation(config, next.refresh_token as string)
  t.match(await errorOf(openid.refreshTokenGrant(config, next.refresh_token as string)), { error: 'invalid_grant' })
})

/** A confidential client whose credentials have to be encoded by the book, and a service that asks about its tokens. */
const orders = { client_id: 'orders:1+1=2&3%', client_secret: 'a+b %2B&c=d:"e\\é漢😀' }
/** Its other one: simple-oauth2 takes those of RFC 6749 appendix A.2 only, which is ASCII. */
const asciiSecret = 'a+b %2B&c=d:"e\\~'
const api = { client_id: 'api', client_secret: 'of the service that asks, in words' }

async function serveConfidential(t: Test, build: Build) {
  const grants = ['password', 'refresh_token', 'client_credentials']
  const file = await writeClients(t, [
    { ...orders, client_secret: [orders.client_secret, asciiSecret], grants, scopes: ['files:read', 'files:write'] },
    { ...api, introspect: true },
  ])
  return serve(build, { AUTH_CLIENTS_FILE: file })
}

onOneStore(
  'oauth4webapi is a confidential client by each method: its own token, those of users, introspection, revocation',
  async (t, build) => {
    const { issuer } = await serveConfidential(t, build)
    const as = await discover(issuer)
    for (const [name, method] of Object.entries({ basic: oauth.ClientSecretBasic, post: oauth.ClientSecretPost })) {
      const [auth, apiAuth] = [method(orders.client_secret), method(api.client_secret)]
      const active = async (token: string) => {
        const response = await oauth.introspectionRequest(as, api, apiAuth, token, insecure)
        return oauth.processIntrospectionResponse(as, api, response)
      }
      const scope = new URLSearchParams({ scope: 'files:read' })
      const granted = await oauth.clientCredentialsGrantRequest(as, orders, auth, scope, insecure)
      const own = await oauth.processClientCredentialsResponse(as, orders, granted)
      t.match(own, { access_token: String, token_type: 'bearer', expires_in: 600, scope: 'files:read' }, name)
      t.notOk(own.refresh_token)
      const claims = await oauth.validateJwtAccessToken(as, requestWith(own.access_token), issuer.origin, insecure)
      t.match(claims, { sub: orders.client_id, client_id: orders.client_id, scope: 'files:read' })
      t.match(await active(own.access_token), { active: true, client_id: orders.client_id, sub: orders.client_id })

      const parameters = new URLSearchParams({ username: 'ada', password, scope: 'files:read files:write' })
      const login = await oauth.genericTokenEndpointRequest(as, orders, auth, 'password', parameters, insecure)
      const tokens = await oauth.processGenericTokenEndpointResponse(as, orders, login)
      const refreshed = await oauth.refreshTokenGrantRequest(as, orders, auth, tokens.refresh_token as string, {
        ...insecure,
        additionalParameters: { scope: 'files:read' },
      })
      const next = await oauth.processRefreshTokenResponse(as, orders, refreshed)
      t.equal(next.scope, 'files:read', 'narrowed')
      t.match(await active(next.access_token), { active: true, scope: 'files:read', sid: String })

      await oauth.processRevocationResponse(
        await oauth.revocationRequest(as, orders, auth, next.refresh_token as string, insecure),
      )
      t.same(await active(next.access_token), { active: false })
      const afterwards = await oauth.refreshTokenGrantRequest(as, orders, auth, next.refresh_token as string, insecure)
      t.match(await errorOf(oauth.processRefreshTokenResponse(as, orders, afterwards)), { error: 'invalid_grant' })
      await oauth.processRevocationResponse(await oauth.revocationRequest(as, orders, auth, own.access_token, insecure))
      t.same(await active(own.access_token), { active: false })

      const wrong = await oauth.clientCredentialsGrantRequest(as, orders, method('wrong'), scope, insecure)
      const error = await errorOf(oauth.processClientCredentialsResponse(as, orders, wrong))
      if (name === 'basic') t.match(error, { cause: [{ scheme: 'basic', parameters: { realm: 'latchkey' } }] })
      else t.match(error, { error: 'invalid_client' })
    }
  },
)

onOneStore(
  'openid-client is a confidential client by each method: its own token, refresh, introspection, revocation',
  async (t, build) => {
    const { issuer } = await serveConfidential(t, build)
    const options = { algorithm: 'oauth2' as const }
    for (const method of [openid.ClientSecretBasic, openid.ClientSecretPost]) {
      const configure = ({ client_id, client_secret }: typeof orders) =>
        openid.discovery(issuer, client_id, client_secret, method(client_secret), {
          ...options,
          execute: [openid.allowInsecureRequests],
        })
      const [config, ofApi] = [await configure(orders), await configure(api)]
      const own = await openid.clientCredentialsGrant(config, { scope: 'files:write', resource: issuer.origin })
      t.match(own, { token_type: 'bearer', expires_in: 600, scope: 'files:write' })
      t.match(await openid.tokenIntrospection(ofApi, own.access_token), {
        active: true,
        sub: orders.client_id,
        scope: 'files:write',
      })
      t.match(await errorOf(openid.clientCredentialsGrant(config, { scope: 'admin' })), { error: 'invalid_scope' })
      t.match(await errorOf(openid.clientCredentialsGrant(config, { resource: 'https://other.example' })), {
        error: 'invalid_target',
      })
      t.match(
        await errorOf(openid.tokenIntrospection(config, own.access_token)),
        { status: 403 },
        'it has no right to ask',
      )

      const tokens = await openid.genericGrantRequest(config, 'password', { username: 'ada', password })
      const next = await openid.refreshTokenGrant(config, tokens.refresh_token as string)
      t.match(await errorOf(openid.refreshTokenGrant(ofApi, next.refresh_token as string)), {
        error: 'unauthorized_client',
      })
      t.match(await openid.tokenIntrospection(ofApi, next.access_token), {
        active: true,
        client_id: orders.client_id,
        sid: String,
      })
      t.same(
        await openid.tokenIntrospection(ofApi, next.refresh_token as string),
        { active: false },
        'which is for its own client only',
      )
      await openid.tokenRevocation(config, next.refresh_token as string)
      t.same(await openid.tokenIntrospection(ofApi, next.access_token), { active: false })
    }
  },
)

onOneStore('simple-oauth2 gets a token of its own, logs in, refreshes and revokes', async (t, build) => {
  const { app, issuer } = await serveConfidential(t, build)
  for (const authorizationMethod of ['header', 'body'] as const) {
    const settings = {
      client: { id: orders.client_id, secret: asciiSecret },
      auth: { tokenHost: issuer.origin, tokenPath: '/token', revokePath: '/revoke' },
      options: { authorizationMethod },
    }
    const service = new ClientCredentials(settings)
    const own = await service.getToken({ scope: ['files:read', 'files:write'] })
    t.match(own.token, { token_type: 'Bearer', expires_in: 600, scope: 'files:read files:write' }, authorizationMethod)
    t.match(claimsOf(own.token['access_token'] as string), { sub: orders.client_id, client_id: orders.client_id })
    t.equal(own.expired(), false)
    t.match(await errorOf(service.getToken({ scope: 'admin' })), { output: { statusCode: 400 } })

    const people = new ResourceOwnerPassword(settings)
    const login = await people.getToken({ username: 'ada', password, scope: 'files:read' })
    t.ok(await isAccepted(app, login.token['access_token'] as string))
    const next = await login.refresh()
    t.not(next.token['refresh_token'], login.token['refresh_token'])
    t.equal(next.token['scope'], 'files:read')
    await next.revoke('access_token')
    t.notOk(await isAccepted(app, next.token['access_token'] as string))
    const last = await next.refresh()
    await last.revokeAll()
    t.notOk(await isAccepted(app, last.token['access_token'] as string))
    t.match(await errorOf(last.refresh()), { output: { statusCode: 400 } })
    t.match(await errorOf(people.getToken({ username: 'ada', password: 'wrong' })), { output: { statusCode: 400 } })
    const wrong = new ClientCredentials({ ...settings, client: { ...settings.client, secret: 'wrong' } })
    t.match(await errorOf(wrong.getToken({})), { output: { statusCode: 401 } })
  }
})

onOneStore('jose checks a token by the JWKS, for every algorithm', async (t, build) => {
  for (const alg of ['ES256', 'RS256', 'EdDSA']) {
    const { issuer, tokens } = await serve(build, { AUTH_SIGNING_ALG: alg, AUTH_AUDIENCE: 'https://api.example' })
    const as = await discover(issuer)
    const jwks = createRemoteJWKSet(new URL(as.jwks_uri as string))
    const expected = { issuer: issuer.origin, audience: 'https://api.example', typ: 'at+jwt' }
    const { payload, protectedHeader } = await jwtVerify(tokens.access_token, jwks, expected)
    t.match(payload, { iss: issuer.origin, client_id: 'first-party' })
    t.equal(protectedHeader.alg, alg)
    await t.rejects(jwtVerify(tokens.access_token, jwks, { ...expected, audience: 'https://other.example' }))
    await oauth.validateJwtAccessToken(as, requestWith(tokens.access_token), 'https://api.example', {
      ...insecure,
      signingAlgorithms: [alg],
    })
  }
})

/** Where a browser is sent to, and what the page's status is where nothing is asked for. */
const pages: Record<string, number> = { authorization_endpoint: 400, end_session_endpoint: 200 }

/** Calls everything that the metadata of RFC 8414 names. */
async function works(t: Test, issuer: URL, as: oauth.AuthorizationServer, refreshToken: string): Promise<void> {
  t.equal(as.issuer, issuer.origin)
  for (const [name, value] of Object.entries(as)) {
    if (!/_endpoint$|_uri$|^service_documentation$/.test(name)) continue
    t.equal(new URL(value as string).origin, issuer.origin, name)
    const method = !name.endsWith('_endpoint') || name in pages ? 'GET' : 'POST'
    const response = await fetch(value as string, { method, ...(method === 'POST' && { body: new URLSearchParams() }) })
    const expected = method === 'POST' ? [400, 401] : [pages[name] ?? 200]
    t.ok(expected.includes(response.status), `${name} is there`)
    if (name in pages) t.match(response.headers.get('content-type'), /^text\/html/, `${name} is a page`)
  }
  const parameters: Record<string, Record<string, string>> = {
    password: { username: 'ada', password },
    refresh_token: { refresh_token: refreshToken },
  }
  for (const grant_type of as.grant_types_supported ?? []) {
    const body = new URLSearchParams({ grant_type, ...parameters[grant_type] })
    const response = await fetch(as.token_endpoint as string, { method: 'POST', body })
    const { error } = (await response.json()) as { error?: string }
    t.not(error, 'unsupported_grant_type', grant_type)
    if (grant_type in parameters) t.equal(response.status, 200, grant_type)
  }
  for (const grant_type of Object.keys(parameters)) {
    if (as.grant_types_supported?.includes(grant_type)) continue
    const body = new URLSearchParams({ grant_type, ...parameters[grant_type] })
    t.equal(
      (await fetch(as.token_endpoint as string, { method: 'POST', body })).status,
      400,
      `${grant_type} is not offered, and refused`,
    )
  }
  t.ok(as.authorization_endpoint)
  t.same(as.response_types_supported, ['code'])
}

onOneStore('everything that the metadata names works, and nothing else is named', async (t, build) => {
  const { issuer, tokens } = await serve(build)
  await works(t, issuer, await discover(issuer), tokens.refresh_token)
})

onOneStore('the metadata follows the settings (AUTH_PASSWORD_GRANT=off)', async (t, build) => {
  const { issuer, tokens, restart } = await serve(build)
  const { app } = await restart({ AUTH_PASSWORD_GRANT: 'off' })
  await app.listen({ host: '127.0.0.1', port: Number(issuer.port) })
  const as = await discover(issuer)
  t.notOk(as.grant_types_supported?.includes('password'))
  await works(t, issuer, as, tokens.refresh_token)
})

onOneStore('an issuer with a path is discovered where RFC 8414 §3.1 puts it', async (t, build) => {
  const { app } = await build({ AUTH_ISSUER: 'https://example.com/auth/one' })
  const metadata = json(await app.inject({ url: '/.well-known/oauth-authorization-server/auth/one' }))
  t.equal(metadata.issuer, 'https://example.com/auth/one')
  t.equal(metadata.token_endpoint, 'https://example.com/auth/one/token')
})
