import { createHash, createHmac, generateKeyPairSync, sign } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { createLocalJWKSet, jwtVerify } from 'jose'
import type { Test } from 'tap'
import { deviceGrant } from '../../domain/grant.ts'
import { basic, type Credentials, inForm, isOAuthError, makeClient, tokenOf } from '../support/client-helper.ts'
import { type Codes, decide } from '../support/devices.ts'
import { type Build, json, logIn, onOneStore, password, postForm, signUp } from '../support/helper.ts'

/* The document of RFC 8414 drives: everything that it advertises works, and nothing that it does not is accepted. */

interface Metadata {
  issuer: string
  token_endpoint: string
  authorization_challenge_endpoint: string
  device_authorization_endpoint: string
  code_challenge_methods_supported: string[]
  acr_values_supported: string[]
  revocation_endpoint: string
  introspection_endpoint: string
  jwks_uri: string
  service_documentation: string
  grant_types_supported: string[]
  token_endpoint_auth_methods_supported: string[]
  revocation_endpoint_auth_methods_supported: string[]
  introspection_endpoint_auth_methods_supported: string[]
  [name: string]: unknown
}

const wellKnown = '/.well-known/oauth-authorization-server'
const allGrants = ['password', 'refresh_token', 'authorization_code', 'client_credentials', deviceGrant] as const

/** The service, its document, and clients that may use every grant. */
async function serve(build: Build, settings: Record<string, string> = {}) {
  const test = await build(settings)
  const { app, config } = test
  await signUp(app)
  const may = { grants: [...allGrants], scopes: ['a'], introspect: 'all' as const, firstParty: true }
  const client = await makeClient(app, { id: 'orders', ...may })
  const { pathname } = new URL(config.AUTH_ISSUER)
  const response = await app.inject({ url: wellKnown + pathname.replace(/\/$/, '') })
  const metadata: Metadata = json(response)
  /** Where a proxy would send a request to a URL of the document. */
  const pathOf = (url: string) => {
    if (!url.startsWith(metadata.issuer.replace(/\/$/, ''))) throw new Error(`${url} is not of the issuer`)
    return url.slice(metadata.issuer.replace(/\/$/, '').length)
  }
  return { ...test, client, response, metadata, pathOf }
}
type Served = Awaited<ReturnType<typeof serve>>

/** Each method of authentication, as RFC 8414 and the registry of IANA name it. */
const authentications: Record<
  string,
  (client: Credentials) => { fields: Record<string, string>; headers?: Record<string, string> }
> = {
  none: () => ({ fields: { client_id: 'first-party' } }),
  client_secret_basic: (client) => ({ fields: {}, ...basic(client) }),
  client_secret_post: (client) => ({ fields: inForm(client) }),
}

const send = (
  app: FastifyInstance,
  url: string,
  fields: Record<string, string>,
  auth: ReturnType<(typeof authentications)[string]>,
) => postForm(app, url, { ...fields, ...auth.fields }, { ...(auth.headers && { headers: auth.headers }) })

/** Tries everything that the document names. */
async function works(t: Test, { app, client, metadata, pathOf }: Served): Promise<void> {
  const tokenPath = pathOf(metadata.token_endpoint)
  const isOff = !metadata.grant_types_supported.includes('password')
  const codePath = pathOf(metadata.authorization_challenge_endpoint)
  const decided = async (auth: Parameters<typeof send>[3]): Promise<{ device_code: string }> => {
    const codes: Codes = json(await send(app, pathOf(metadata.device_authorization_endpoint), {}, auth))
    await decide(app, codes, 'allow')
    return codes
  }
  for (const method of metadata.token_endpoint_auth_methods_supported) {
    const auth = (authentications[method] as (typeof authentications)[string])(client)
    const login = isOff
      ? undefined
      : json(await send(app, tokenPath, { grant_type: 'password', username: 'ada', password }, auth))
    const { authorization_code: code } = json(await send(app, codePath, { username: 'ada', password }, auth))
    const parameters: Record<string, Record<string, string>> = {
      password: { username: 'ada', password },
      authorization_code: { code },
      refresh_token: { refresh_token: login?.refresh_token ?? 'x' },
      client_credentials: {},
      [deviceGrant]: method === 'none' ? { device_code: 'x' } : await decided(auth),
    }
    for (const grant_type of metadata.grant_types_supported) {
      const response = await send(app, tokenPath, { grant_type, ...parameters[grant_type] }, auth)
      const what = `${grant_type} with ${method}`
      if (method === 'none' && (grant_type === 'client_credentials' || grant_type === deviceGrant))
        isOAuthError(t, response, 400, 'unauthorized_client', what)
      else if (grant_type === 'refresh_token' && !login) isOAuthError(t, response, 400, 'invalid_grant', what)
      else t.equal(response.statusCode, 200, what)
    }
  }

  for (const method of metadata.code_challenge_methods_supported) {
    t.equal(method, 'S256')
    const auth = { fields: {} }
    const code_verifier = 'v'.repeat(43)
    const code_challenge = createHash('sha256').update(code_verifier).digest('base64url')
    const asked = { username: 'ada', password, code_challenge, code_challenge_method: method }
    const { authorization_code: code } = json(await send(app, codePath, asked, auth))
    const traded = await send(app, tokenPath, { grant_type: 'authorization_code', code, code_verifier }, auth)
    t.equal(traded.statusCode, 200, `PKCE by ${method}`)
    const plain = await send(app, codePath, { ...asked, code_challenge_method: 'plain' }, auth)
    isOAuthError(t, plain, 400, 'invalid_request', 'PKCE by plain')
  }
  for (const acr_values of [...metadata.acr_values_supported, 'urn:latchkey:acr:3']) {
    const response = await send(app, codePath, { username: 'ada', password, acr_values }, { fields: {} })
    const isKnown = json(response).error !== 'unmet_authentication_requirements'
    t.equal(isKnown, metadata.acr_values_supported.includes(acr_values), acr_values)
  }

  const keys = createLocalJWKSet(json(await app.inject({ url: pathOf(metadata.jwks_uri) })))
  const token = await tokenOf(app, client)
  const { payload } = await jwtVerify(token, keys, { issuer: metadata.issuer, typ: 'at+jwt' })
  t.equal(payload.sub, 'orders', 'jwks_uri')

  for (const method of metadata.introspection_endpoint_auth_methods_supported) {
    const auth = (authentications[method] as (typeof authentications)[string])(client)
    t.equal(
      json(await send(app, pathOf(metadata.introspection_endpoint), { token }, auth)).active,
      true,
      `introspection with ${method}`,
    )
  }
  for (const method of metadata.revocation_endpoint_auth_methods_supported) {
    const auth = (authentications[method] as (typeof authentications)[string])(client)
    const its = method === 'none' ? (isOff ? 'x' : (await logIn(app)).access_token) : await tokenOf(app, client)
    t.equal((await send(app, pathOf(metadata.revocation_endpoint), { token: its }, auth)).statusCode, 200)
    t.equal(
      json(await postForm(app, '/introspect', { token: its }, basic(client))).active,
      false,
      `revocation with ${method}`,
    )
  }
  const documentation = await app.inject({ url: pathOf(metadata.service_documentation) })
  t.ok([200, 302].includes(documentation.statusCode), 'service_documentation')
  for (const [name, value] of Object.entries(metadata)) {
    if (/_endpoint$|_uri$/.test(name)) t.ok(pathOf(String(value)).startsWith('/'), name)
  }
}

/** Tries what the document does not name. */
async function nothingElse(t: Test, { app, client, metadata }: Served): Promise<void> {
  const others = ['implicit', 'urn:openid:params:grant-type:ciba']
  others.push('urn:ietf:params:oauth:grant-type:token-exchange', 'urn:ietf:params:oauth:grant-type:jwt-bearer')
  others.push(
    'urn:ietf:params:oauth:grant-type:saml2-bearer',
    'PASSWORD',
    'client-credentials',
    'password client_credentials',
    'none',
  )
  const token = await tokenOf(app, client)
  const fields = {
    ...{ username: 'ada', password, code: 'x', device_code: 'x', assertion: token, subject_token: token },
    ...{
      subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      redirect_uri: 'https://app.example/',
      code_verifier: 'x',
    },
  }
  for (const grant_type of [
    ...others,
    ...allGrants.filter((grant) => !metadata.grant_types_supported.includes(grant)),
  ]) {
    for (const options of [basic(client), {}]) {
      const response = await postForm(app, '/token', { grant_type, ...fields }, options)
      isOAuthError(t, response, 400, 'unsupported_grant_type', grant_type)
    }
  }
  const endpoints = {
    registration: '/register',
    authorization: '/authorize',
    userinfo: '/userinfo',
    end_session: '/sign-out',
    pushed_authorization_request: '/par',
    device_authorization: '/device_authorization',
  }
  for (const [name, url] of Object.entries(endpoints)) {
    const isThere = (await app.inject({ url })).statusCode !== 404
    t.equal(`${name}_endpoint` in metadata, isThere, name)
  }
}

/** Ways to authenticate that are not offered: each names the client rightly, and none makes it that client. */
async function nobodyElse(t: Test, { app, client, metadata }: Served): Promise<void> {
  const claims = {
    iss: client.id,
    sub: client.id,
    aud: metadata.token_endpoint,
    jti: 'x',
    exp: Math.floor(app.now() / 1000) + 60,
  }
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const input = (alg: string) => `${encode({ alg })}.${encode(claims)}`
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const assertions = {
    client_secret_jwt: `${input('HS256')}.${createHmac('sha256', client.secret).update(input('HS256')).digest('base64url')}`,
    private_key_jwt: `${input('ES256')}.${sign('sha256', Buffer.from(input('ES256')), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`,
    'an assertion without a signature': `${input('none')}.`,
    'an access token as the assertion': await tokenOf(app, client),
  }
  const certificate = {
    'x-ssl-client-verify': 'SUCCESS',
    'x-ssl-client-s-dn': `CN=${client.id}`,
    'x-forwarded-client-cert': `Subject="CN=${client.id}"`,
  }
  const attempts: Record<
    string,
    { fields?: Record<string, string>; headers?: Record<string, string>; query?: string }
  > = {
    'tls_client_auth, as a proxy would tell': { headers: certificate },
    'credentials in the query': { query: `?${new URLSearchParams(inForm(client))}` },
    'a bearer token': { headers: { authorization: `Bearer ${await tokenOf(app, client)}` } },
    'Digest credentials': { headers: { authorization: `Digest username="${client.id}", response="x"` } },
    'a secret as a bearer token': { headers: { authorization: `Bearer ${client.secret}` } },
    'a cookie': { headers: { cookie: `client_id=${client.id}; client_secret=${client.secret}` } },
  }
  for (const [what, client_assertion] of Object.entries(assertions)) {
    attempts[what] = {
      fields: { client_assertion, client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer' },
    }
  }
  for (const [what, { fields = {}, headers = {}, query = '' }] of Object.entries(attempts)) {
    const named = { client_id: client.id, ...fields }
    const options = { headers }
    const grant = await postForm(app, `/token${query}`, { grant_type: 'client_credentials', ...named }, options)
    isOAuthError(t, grant, 401, 'invalid_client', `${what} at /token`)
    isOAuthError(
      t,
      await postForm(app, `/revoke${query}`, { token: 'x', ...named }, options),
      401,
      'invalid_client',
      `${what} at /revoke`,
    )
    const asked = await postForm(app, `/introspect${query}`, { token: 'x', ...named }, options)
    isOAuthError(t, asked, 401, 'invalid_client', `${what} at /introspect`)
    const followed = await app.inject({ url: `/revocations${query}`, headers })
    t.equal(followed.statusCode, 401, `${what} at /revocations`)
    const anonymous = await postForm(app, `/token${query}`, { grant_type: 'client_credentials', ...fields }, options)
    isOAuthError(t, anonymous, 400, 'unauthorized_client', `${what} without a client_id: it is first-party that asks`)
  }
}

onOneStore('the document says what there is, and may be cached', async (t, build) => {
  const { app, metadata, response } = await serve(build)
  t.equal(response.headers['cache-control'], 'public, max-age=300')
  t.match(response.headers['content-type'], /^application\/json/)
  t.same(metadata, { ...always, grant_types_supported: [...allGrants], ...inTheBrowser })
  t.same(json(await app.inject({ url: '/.well-known/openid-configuration' })), metadata)
})

const always = {
  issuer: 'http://localhost:3000',
  token_endpoint: 'http://localhost:3000/token',
  jwks_uri: 'http://localhost:3000/.well-known/jwks.json',
  authorization_challenge_endpoint: 'http://localhost:3000/challenge',
  code_challenge_methods_supported: ['S256'],
  acr_values_supported: ['urn:latchkey:acr:1', 'urn:latchkey:acr:2'],
  token_endpoint_auth_methods_supported: ['none', 'client_secret_basic', 'client_secret_post'],
  revocation_endpoint: 'http://localhost:3000/revoke',
  revocation_endpoint_auth_methods_supported: ['none', 'client_secret_basic', 'client_secret_post'],
  introspection_endpoint: 'http://localhost:3000/introspect',
  introspection_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
  service_documentation: 'http://localhost:3000/docs',
}

const inTheBrowser = {
  authorization_endpoint: 'http://localhost:3000/authorize',
  device_authorization_endpoint: 'http://localhost:3000/device_authorization',
  pushed_authorization_request_endpoint: 'http://localhost:3000/par',
  userinfo_endpoint: 'http://localhost:3000/userinfo',
  end_session_endpoint: 'http://localhost:3000/sign-out',
  backchannel_logout_supported: true,
  backchannel_logout_session_supported: true,
  response_types_supported: ['code'],
  response_modes_supported: ['query', 'form_post'],
  authorization_response_iss_parameter_supported: true,
  prompt_values_supported: ['none', 'login', 'consent', 'select_account', 'create'],
  ui_locales_supported: ['en', 'ko'],
  scopes_supported: ['openid', 'profile', 'email', 'offline_access'],
  subject_types_supported: ['public'],
  id_token_signing_alg_values_supported: ['RS256', 'ES256', 'EdDSA'],
  claim_types_supported: ['normal'],
  claims_supported: [
    ...['iss', 'aud', 'sub', 'iat', 'exp', 'auth_time', 'acr', 'amr', 'sid', 'nonce', 'at_hash'],
    ...['name', 'preferred_username', 'email', 'email_verified'],
  ],
  claims_parameter_supported: true,
  request_parameter_supported: false,
  request_uri_parameter_supported: false,
}

onOneStore('AUTH_PAGES=off: nothing of it is there, nor in the document', async (t, build) => {
  const served = await serve(build, { AUTH_PAGES: 'off' })
  t.same(served.metadata, { ...always, grant_types_supported: allGrants.filter((grant) => grant !== deviceGrant) })
  await nothingElse(t, served)
})

onOneStore(
  'everything that the document advertises works: each grant by each method, at each endpoint',
  async (t, build) => {
    await works(t, await serve(build))
  },
)

onOneStore('a grant that the document does not advertise is unsupported', async (t, build) => {
  await nothingElse(t, await serve(build))
})

onOneStore('a method of authentication that the document does not advertise is not accepted', async (t, build) => {
  await nobodyElse(t, await serve(build))
})

onOneStore('AUTH_PASSWORD_GRANT=off: the document and what is done agree', async (t, build) => {
  const served = await serve(build, { AUTH_PASSWORD_GRANT: 'off' })
  t.same(
    served.metadata.grant_types_supported,
    allGrants.filter((grant) => grant !== 'password'),
  )
  await works(t, served)
  await nothingElse(t, served)
  const implied = await postForm(served.app, '/token', { username: 'ada', password })
  isOAuthError(t, implied, 400, 'unsupported_grant_type', 'a login without grant_type')
})

onOneStore('a session that was opened before AUTH_PASSWORD_GRANT=off goes on', async (t, build) => {
  const first = await build()
  await signUp(first.app)
  const { refresh_token } = await logIn(first.app)
  const { app } = await first.restart({ AUTH_PASSWORD_GRANT: 'off' })
  t.equal((await postForm(app, '/token', { grant_type: 'refresh_token', refresh_token })).statusCode, 200)
})

onOneStore(
  'an issuer with a path: all of the document is of that path, and it is found where RFC 8414 §3.1 puts it',
  async (t, build) => {
    for (const issuer of [
      'https://example.com/auth',
      'https://example.com/auth/one/',
      'https://example.com/',
      'https://example.com/a:b',
    ]) {
      const served = await serve(build, { AUTH_ISSUER: issuer })
      t.equal(served.metadata.issuer, issuer, 'to the character (RFC 8414 §3.3)')
      await works(t, served)
      const atRoot = await served.app.inject({ url: wellKnown })
      t.same(json(atRoot), served.metadata, 'behind a proxy that takes the path away, it is at the root')
      t.equal((await served.app.inject({ url: `${wellKnown}/other` })).statusCode, 404)
    }
  },
)

onOneStore('browsers are told which pages of other hosts may use passkeys of this one', async (t, build) => {
  const url = '/.well-known/webauthn'
  const issuer = 'https://auth.example.com'
  const app = 'android:apk-key-hash:9JC5S_6KTJDT5y4u_LE4Cfp74Wl3tPZoevcmuXBLij4'
  const named = { AUTH_WEBAUTHN_ORIGINS: `${issuer},https://app.example.com,${app}` }
  const response = await (await build({ AUTH_ISSUER: issuer, ...named })).app.inject({ url })
  t.same(json(response), { origins: ['https://app.example.com'] })
  t.match(response.headers['content-type'], /^application\/json/)
  t.match(response.headers['cache-control'], /^public/)
  for (const none of [{ AUTH_ISSUER: issuer }, { AUTH_ISSUER: 'http://127.0.0.1:3000', ...named }]) {
    t.equal((await (await build(none)).app.inject({ url })).statusCode, 404)
  }
})
