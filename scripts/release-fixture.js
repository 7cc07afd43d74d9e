/*
 * Has a release that is out write an embedded store, for `test/stores/migrations.test.ts`, which from 0.3 on does this
 * by itself at each release (UPDATE=1). In a checkout of the release, with `npm ci` and `npm run build` done there:
 *
 *     node scripts/release-fixture.js ../old/dist test/stores/fixtures/release-0.1.0
 *
 * It writes release-0.1.0.mdb.gz, the file of LMDB, and release-0.1.0.mdb.json, the tokens that were given out.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { gzipSync } from 'node:zlib'

const [dist = '', out = ''] = process.argv.slice(2)
const load = (file) => import(pathToFileURL(join(resolve(dist), file)).href)
const { buildApp } = await load('app.js')
const { readConfig } = await load('config.js')

const dir = mkdtempSync(join(tmpdir(), 'latchkey-fixture-'))
const madeAt = Date.parse('2026-11-01T12:00:00Z')
const password = 'correct horse battery staple'
const settings = {
  AUTH_INSECURE: '1',
  AUTH_ARGON2_MEMORY: '8',
  AUTH_ARGON2_TIME: '1',
  AUTH_SECRET: 'the secret that the fixtures were made with',
  AUTH_ISSUER: 'http://localhost:3000',
  AUTH_DATA_DIR: dir,
  LOG_LEVEL: 'warn',
}
const app = await buildApp(readConfig(settings), { now: () => madeAt })

async function call(expected, method, url, { json, form, token } = {}) {
  const answer = await app.inject({
    method,
    url,
    headers: {
      ...(form && { 'content-type': 'application/x-www-form-urlencoded' }),
      ...(token && { authorization: `Bearer ${token}` }),
    },
    payload: form ? new URLSearchParams(form).toString() : json,
  })
  if (answer.statusCode !== expected) throw new Error(`${url}: ${answer.statusCode} ${answer.body}`)
  return answer.body === '' ? undefined : answer.json()
}
const logIn = (username) => call(200, 'POST', '/token', { form: { grant_type: 'password', username, password } })

for (const username of ['Ada', 'bob', 'cyd', 'dan'])
  await call(201, 'POST', '/signup', { json: { username, password } })
const [ada, bob, cyd, dan] = [await logIn('ada'), await logIn('bob'), await logIn('cyd'), await logIn('dan')]
const form = { grant_type: 'refresh_token', refresh_token: ada.refresh_token }
const next = await call(200, 'POST', '/token', { form })
await call(204, 'POST', '/logout', { token: bob.access_token })
const here = await logIn('cyd')
const change = { current_password: password, new_password: `${password} anew` }
await call(204, 'POST', '/users/me/password', { json: change, token: here.access_token })
await call(204, 'DELETE', '/users/me', { json: { password }, token: dan.access_token })
const wrong = { grant_type: 'password', username: 'ada', password: 'a wrong password' }
await call(400, 'POST', '/token', { form: wrong })

// Clients came with 0.2.
let service
if (app.clients && app.store.createClient) {
  const { createHash } = await import('node:crypto')
  service = { id: 'a-service', secret: 'a-secret-of-the-service-that-is-long-enough' }
  const secrets = [
    { hash: `sha256:${createHash('sha256').update(service.secret).digest('base64url')}`, createdAt: madeAt },
  ]
  const client = { id: service.id, type: 'confidential', grants: ['client_credentials'], scopes: ['files:read'] }
  const members = { audience: ['https://api.example'], introspect: 'audience', createdAt: madeAt, isDeclared: false }
  await app.store.createClient({ ...client, ...members, generation: madeAt, secrets })
}
await app.close()

writeFileSync(`${out}.mdb.gz`, gzipSync(readFileSync(join(dir, 'lmdb/data.mdb')), { level: 9 }))
const tokens = {
  good: next.access_token,
  goodRefresh: next.refresh_token,
  spentRefresh: ada.refresh_token,
  keptRefresh: here.refresh_token,
  loggedOut: bob.access_token,
  changedElsewhere: cyd.access_token,
  deleted: dan.access_token,
}
writeFileSync(`${out}.mdb.json`, `${JSON.stringify({ tokens, service }, null, 2)}\n`)
rmSync(dir, { recursive: true })
process.exit(0)
