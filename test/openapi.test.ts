import { json, listen, onOneStore, overStores } from './helper.ts'

const routes: Record<string, string[]> = {
  '/signup': ['post'],
  '/token': ['post'],
  '/refresh': ['post'],
  '/protected': ['get'],
  '/users/me': ['get', 'delete'],
  '/users/me/password': ['post'],
  '/users/me/sessions': ['get', 'delete'],
  '/users/me/sessions/{id}': ['delete'],
  '/logout': ['post'],
  '/revoke': ['post'],
  '/verify': ['get'],
  '/introspect': ['post'],
  '/revocations': ['get'],
  '/admin/users': ['get', 'post'],
  '/admin/users/{id}': ['get', 'delete'],
  '/admin/users/{id}/disable': ['post'],
  '/admin/users/{id}/enable': ['post'],
  '/admin/users/{id}/roles': ['put'],
  '/admin/users/{id}/password': ['put'],
  '/admin/users/{id}/sessions': ['get', 'delete'],
  '/admin/sessions/{id}': ['delete'],
  '/admin/clients': ['get', 'post'],
  '/admin/clients/{id}': ['get', 'delete'],
  '/admin/clients/{id}/disable': ['post'],
  '/admin/clients/{id}/enable': ['post'],
  '/admin/clients/{id}/rotate-secret': ['post'],
  '/admin/keys': ['get'],
  '/admin/keys/{kid}': ['delete'],
  '/admin/keys/rotate': ['post'],
  '/.well-known/jwks.json': ['get'],
  '/.well-known/oauth-authorization-server': ['get'],
  '/livez': ['get'],
  '/readyz': ['get'],
}

overStores('GET /openapi.json describes every route by OpenAPI 3.1', async (t, build) => {
  const { app } = await build()
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
  t.same(Object.keys(document.paths['/token'].post.requestBody.content), ['application/x-www-form-urlencoded'])
  t.same(Object.keys(document.paths['/signup'].post.requestBody.content), ['application/json'])
  t.match(document.components.securitySchemes.login.flows.password, { tokenUrl: '/token' })
})

onOneStore('GET /docs is a page that loads nothing from elsewhere, over plain HTTP too', async (t, build) => {
  const { app } = await build()
  const page = await app.inject({ url: '/docs/' })
  t.equal(page.statusCode, 200)
  const policy = String(page.headers['content-security-policy'])
  t.match(policy, /script-src 'self'/)
  t.notMatch(policy, /upgrade-insecure-requests|swagger\.io/)
})

onOneStore('GET /metrics is served on AUTH_METRICS_PORT only', async (t, build) => {
  const { app, logs } = await build({ AUTH_METRICS_PORT: '0' })
  const origin = await listen(app)
  await fetch(`${origin}/livez`)
  const address = String(logs.find(({ msg }) => msg === 'metrics are served')?.['address'])
  const metrics = await (await fetch(address)).text()
  t.match(metrics, /latchkey_http_request_duration_seconds_count\{method="GET",route="\/livez",status="200"\} 1/)
  t.match(metrics, /latchkey_hashes_running 0/)
  t.equal((await fetch(`${origin}/metrics`)).status, 404)
})
