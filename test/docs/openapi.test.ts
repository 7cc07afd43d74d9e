import { createConfig, lintFromString } from '@redocly/openapi-core'
import { json, onOneStore } from '../support/helper.ts'
import { mailsInto } from '../support/mail.ts'

interface Operation {
  operationId: string
  tags: string[]
  security?: Record<string, string[]>[]
}

const routes: Record<string, string[]> = {
  '/signup': ['post'],
  '/token': ['post'],
  '/challenge': ['post'],
  '/device_authorization': ['post'],
  '/par': ['post'],
  '/authorize': ['get'],
  '/refresh': ['post'],
  '/protected': ['get'],
  '/users/me': ['get', 'delete'],
  '/users/me/password': ['post'],
  '/users/me/email': ['post'],
  '/email/verify': ['post'],
  '/email/undo': ['post'],
  '/password/forgot': ['post'],
  '/password/reset': ['post'],
  '/users/me/sessions': ['get', 'delete'],
  '/users/me/sessions/{id}': ['delete'],
  '/users/me/factors': ['get'],
  '/users/me/factors/{id}': ['delete'],
  '/users/me/factors/totp': ['post'],
  '/users/me/factors/totp/{id}/confirm': ['post'],
  '/users/me/factors/{id}/confirm': ['post'],
  '/users/me/factors/recovery-codes': ['post'],
  '/users/me/factors/passkeys/options': ['post'],
  '/users/me/factors/passkeys': ['post'],
  '/logout': ['post'],
  '/revoke': ['post'],
  '/verify': ['get'],
  '/introspect': ['post'],
  '/revocations': ['get'],
  '/admin/users': ['get', 'post'],
  '/admin/users/{id}': ['get', 'delete', 'patch'],
  '/admin/invitations': ['post'],
  '/admin/invitations/{id}': ['delete'],
  '/admin/users/disable': ['post'],
  '/admin/users/end-sessions': ['post'],
  '/admin/users/{id}/token': ['post'],
  '/admin/users/{id}/factors': ['get', 'delete'],
  '/admin/users/{id}/disable': ['post'],
  '/admin/users/{id}/enable': ['post'],
  '/admin/users/{id}/roles': ['put'],
  '/admin/users/{id}/password': ['put'],
  '/admin/users/{id}/sessions': ['get', 'delete'],
  '/admin/sessions/{id}': ['delete'],
  '/admin/clients': ['get', 'post'],
  '/admin/clients/{id}': ['get', 'patch', 'delete'],
  '/admin/clients/{id}/disable': ['post'],
  '/admin/clients/{id}/enable': ['post'],
  '/admin/clients/{id}/rotate-secret': ['post'],
  '/admin/explain/{id}': ['get'],
  '/admin/webhooks': ['get'],
  '/admin/webhooks/{id}/resend': ['post'],
  '/admin/webhooks/{id}/enable': ['post'],
  '/admin/audit': ['get'],
  '/users/me/audit': ['get'],
  '/admin/keys': ['get'],
  '/admin/keys/{kid}': ['delete'],
  '/admin/keys/rotate': ['post'],
  '/.well-known/jwks.json': ['get'],
  '/.well-known/oauth-authorization-server': ['get'],
  '/.well-known/openid-configuration': ['get'],
  '/userinfo': ['get', 'post'],
  '/livez': ['get'],
  '/readyz': ['get'],
}

onOneStore('GET /openapi.json describes every route by OpenAPI 3.1', async (t, build) => {
  const { app } = await build(await mailsInto(t))
  const document = json(await app.inject({ url: '/openapi.json' }))
  t.equal(document.openapi, '3.1.0')
  t.same(Object.keys(document.paths).sort(), Object.keys(routes).sort())
  for (const [path, methods] of Object.entries(routes)) {
    for (const method of methods) {
      const operation = document.paths[path][method]
      t.ok(operation?.summary, `${method} ${path} says what it is`)
      t.ok(Object.keys(operation.responses).some((status) => status.startsWith('2')))
    }
  }
  t.same(Object.keys(document.paths['/token'].post.requestBody.content), [
    'application/x-www-form-urlencoded',
    'multipart/form-data',
  ])
  t.same(Object.keys(document.paths['/signup'].post.requestBody.content), ['application/json'])
  t.match(document.components.securitySchemes.login.flows.password, { tokenUrl: '/token' })
})

onOneStore('the document passes the recommended rules of Redocly, without a warning', async (t, build) => {
  // With a path, for which some routes are there twice.
  const { app } = await build({ AUTH_ISSUER: 'https://example.com/auth', ...(await mailsInto(t)) })
  const source = (await app.inject({ url: '/openapi.json' })).body
  const problems = await lintFromString({ source, config: await createConfig({ extends: ['recommended'] }) })
  t.same(
    problems.map(({ ruleId, message, location }) => `${ruleId}: ${message} ${location[0]?.pointer}`),
    [],
  )
  t.same(JSON.parse(source).servers, [{ url: '/auth' }], 'behind a proxy that adds a path')
  t.equal(JSON.parse(source).components.securitySchemes.login.flows.password.tokenUrl, '/auth/token')
})

onOneStore('each operation has a name of its own, a described tag, and says how to authenticate', async (t, build) => {
  const { app } = await build(await mailsInto(t))
  const { paths, tags, components } = json(await app.inject({ url: '/openapi.json' }))
  const operations = Object.entries<Record<string, Operation>>(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ at: `${method} ${path}`, path, ...operation })),
  )
  const names = operations.map(({ operationId }) => operationId)
  t.equal(new Set(names).size, operations.length)
  t.same(
    names.filter((name) => !/^[a-z][A-Za-z]+$/.test(name)),
    [],
  )
  const described = tags.map(({ name, description }: { name: string; description: string }) => description && name)
  for (const { at, path, tags: its, security = [] } of operations) {
    t.ok(its.length === 1 && described.includes(its[0]), `the tag of ${at}`)
    const schemes = security.flatMap(Object.keys)
    t.ok(
      schemes.every((scheme) => components.securitySchemes[scheme]),
      at,
    )
    if (/^\/(admin|user|protected|logout|verify)/.test(path)) t.same(schemes, ['login', 'bearer'], at)
    if (path.startsWith('/admin')) t.same(security[0], { login: ['admin'] }, 'Authorize can ask for the scope')
    if (/^\/(introspect|revocations)/.test(path)) t.same(security, [{ client: [] }], at)
    if (/^\/(token|revoke)$/.test(path)) t.same(security, [{}, { client: [] }], at)
  }
  t.match(components.securitySchemes.client, { type: 'http', scheme: 'basic' })
  t.ok(components.securitySchemes.login.flows.password.scopes.admin)
})

onOneStore('GET /docs is a page that loads nothing from elsewhere, over plain HTTP too', async (t, build) => {
  const { app } = await build(await mailsInto(t))
  const page = await app.inject({ url: '/docs/' })
  t.equal(page.statusCode, 200)
  t.match(page.body, '<title>Latchkey</title>')
  const policy = String(page.headers['content-security-policy'])
  t.match(policy, /script-src 'self'/)
  t.notMatch(policy, /upgrade-insecure-requests|swagger\.io/)
})
