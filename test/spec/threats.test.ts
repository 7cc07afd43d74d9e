import { createHash, generateKeyPairSync, type KeyObject, randomUUID, sign } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import pg from 'pg'
import { createSecrets } from '../../plugins/keys/secrets.ts'
import { createRecords } from '../../plugins/records/records.ts'
import { basic, clientCredentials, introspect, makeClient, writeClients } from '../support/client-helper.ts'
import {
  claimsOf,
  isAccepted,
  json,
  logIn,
  onOneStore,
  overStores,
  password,
  postForm,
  refresh,
  signUp,
  storeOf,
  type TestApp,
  withToken,
} from '../support/helper.ts'

/* What docs/security.md says that an attacker gets, and does not get, by what they have. */

const newPassword = 'another horse, another battery'
const chosenSecret = 'a secret that somebody has chosen'
const authSecret = 'the secret of this test, which is long enough'

/** All that the store has, as text; bytes as hexadecimal digits too. */
async function contentOf({ DATABASE_URL, AUTH_DATA_DIR }: TestApp['config']): Promise<string> {
  if (!DATABASE_URL) {
    const bytes = await readFile(join(AUTH_DATA_DIR, 'lmdb/data.mdb'))
    return `${bytes.toString('latin1')} ${bytes.toString('hex')}`
  }
  const client = new pg.Client({ connectionString: DATABASE_URL })
  await client.connect()
  try {
    const { rows: tables } = await client.query<{ name: string }>(
      'SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema()',
    )
    let text = ''
    for (const { name } of tables) {
      const { rows } = await client.query<{ row: string }>(`SELECT "${name}"::text AS row FROM "${name}"`)
      text += rows.map(({ row }) => row).join('\n')
    }
    return text
  } finally {
    await client.end()
  }
}

/** A secret as it is, and in every form in which it could have been kept. */
function formsOf(secret: string): string[] {
  const bytes = [Buffer.from(secret), Buffer.from(secret.replace(/^lk\w*_/, ''), 'base64url')]
  const forms = bytes.flatMap((each) => [each.toString('hex'), each.toString('base64'), each.toString('base64url')])
  return [secret, ...forms].filter((form) => form.length >= 16)
}

/** Everything secret that a service is told or tells, in a run with all that can be done with it. */
async function liveThrough(test: TestApp): Promise<{ app: FastifyInstance; secrets: string[] }> {
  const { app } = test
  const secrets = [password, newPassword, chosenSecret, authSecret]
  const keep = (tokens: { access_token: string; refresh_token?: string }) => {
    // Of an access token the signature, without which it is public knowledge; of a refresh token the MAC too.
    secrets.push(tokens.access_token.split('.')[2] as string)
    const { refresh_token: token } = tokens
    if (token) secrets.push(token, Buffer.from(token.slice(4), 'base64url').subarray(22).toString('base64url'))
    return tokens as { access_token: string; refresh_token: string }
  }
  await signUp(app, 'ada.lovelace')
  const first = keep(await logIn(app, 'ada.lovelace'))
  await postForm(app, '/token', { username: 'ada.lovelace', password: newPassword })
  await postForm(app, '/token', { username: 'nobody.at.all', password: newPassword })
  await postForm(app, '/token', { username: password, password })
  const second = keep(json(await refresh(app, first.refresh_token)))
  const third = keep(json(await refresh(app, second.refresh_token)))
  await refresh(app, first.refresh_token)
  await isAccepted(app, third.access_token)
  await isAccepted(app, `${third.access_token.slice(0, -8)}AAAAAAAA`)
  await app.inject({ url: `/protected?access_token=${third.access_token}` })

  const again = keep(await logIn(app, 'ada.lovelace'))
  const change = { current_password: password, new_password: newPassword }
  await withToken(app, again.access_token, { method: 'POST', url: '/users/me/password', payload: change })
  const last = keep(await logIn(app, 'ada.lovelace', newPassword))
  await postForm(app, '/revoke', { token: last.access_token })
  await postForm(app, '/revoke', { token: last.refresh_token })

  const client = await makeClient(app, { id: 'reports', introspect: 'all' })
  secrets.push(client.secret, basic(client).headers.authorization.slice('Basic '.length))
  keep(json(await clientCredentials(app, client)))
  await introspect(app, client, again.access_token)
  await introspect(app, { ...client, secret: newPassword }, again.refresh_token)
  await clientCredentials(app, { id: 'declared', secret: chosenSecret })
  secrets.push(await app.clients.rotateSecret(app, 'reports', 60))

  const kinds = {
    test: { prefix: 'lkt_', ttlSeconds: 60, bounds: { perOwner: 1, perSource: 1 }, isSealed: true },
  } as const
  const data = { challenge: randomUUID() }
  const record = await createRecords(app, kinds).issue('test', { owner: 'ada', source: '192.0.2.0/24', data })
  secrets.push(record?.secret as string, data.challenge)
  const jwk = (app.signingKeys.current().privateKey as KeyObject).export({ format: 'jwk' })
  secrets.push(jwk.d as string)
  return { app, secrets }
}

overStores('no secret of a run is in the store or in the log, at the most talkative level', async (t, build) => {
  const declared = [{ client_id: 'declared', client_secret: chosenSecret, grants: ['client_credentials'] }]
  const file = await writeClients(t, declared)
  const settings = { AUTH_SECRET: authSecret, LOG_LEVEL: 'trace', AUTH_CLIENTS_FILE: file }
  const test = await build(settings)
  const { app, secrets } = await liveThrough(test)
  const user = await storeOf(app).findUserByName('ada.lovelace')
  await app.close()
  const stored = await contentOf(test.config)
  const logged = test.logs.map((line) => JSON.stringify(line)).join('\n')

  t.ok(secrets.length >= 24 && secrets.every((secret) => secret?.length >= 16))
  for (const secret of secrets) {
    const found = formsOf(secret).filter((form) => stored.includes(form) || logged.includes(form))
    t.same(found, [], `${secret.slice(0, 8)}…`)
  }
  t.ok(stored.includes('ada.lovelace') && stored.includes(user?.passwordHash as string), 'what is there would be found')
  t.ok(
    stored.includes(
      createHash('sha256')
        .update(secrets.at(-3) as string)
        .digest('base64url'),
    ),
    'as would a hash',
  )
  t.ok(logged.includes(user?.id as string) && /refresh\.reused/.test(logged))
  for (const name of ['ada.lovelace', 'nobody.at.all', user?.passwordHash as string]) t.notMatch(logged, name)
})

onOneStore('what the store has of a secret cannot be presented in its place', async (t, build) => {
  const { app } = await build()
  const { id } = json(await signUp(app))
  const { access_token } = await logIn(app)
  await makeClient(app, { id: 'reports' })
  const user = await storeOf(app).findUser(id)
  const stored = await storeOf(app).findClient('reports')
  const asPassword = await postForm(app, '/token', { username: 'ada', password: user?.passwordHash as string })
  t.equal(asPassword.statusCode, 400)
  const asSecret = await clientCredentials(app, { id: 'reports', secret: stored?.secrets[0]?.hash as string })
  t.equal(asSecret.statusCode, 401)
  t.equal((await refresh(app, claimsOf(access_token)['sid'] as string)).statusCode, 400)
})

/** A refresh token, made by who knows the secret and the id of a session. */
function forgeRefreshToken(secret: string, sessionId: string, counter: number): string {
  const body = Buffer.alloc(22)
  body.write(sessionId.replaceAll('-', ''), 'hex')
  body.writeUIntBE(counter, 16, 6)
  const mac = createSecrets([secret]).mac('refresh token').sign(body)
  return `lkr_${Buffer.concat([body, mac]).toString('base64url')}`
}

overStores(
  'who has AUTH_SECRET and a log takes sessions over, until their owner comes or it is changed',
  async (t, build) => {
    const test = await build({ AUTH_SECRET: authSecret })
    const { app, logs } = test
    await signUp(app)
    const owner = await logIn(app)
    const other = await logIn(app)
    const { sid } = logs.find(({ event }) => event === 'login.succeeded') as { sid: string }
    const stolen = await refresh(app, forgeRefreshToken(authSecret, sid, 1_000))
    t.equal(stolen.statusCode, 200, 'the id of a session is in the log')
    t.equal((await refresh(app, owner.refresh_token)).statusCode, 400)
    t.notOk(await isAccepted(app, json(stolen).access_token), 'the owner comes: the session ends')
    t.ok(logs.some(({ event }) => event === 'refresh.reused'))

    const changed = await test.restart({ AUTH_SECRET: `${authSecret} after`, AUTH_SECRET_PREVIOUS: authSecret })
    const sidOfOther = claimsOf(other.access_token)['sid'] as string
    const kept = json(await refresh(changed.app, other.refresh_token))
    await changed.app.signingKeys.rotateNow(changed.app, { isLeaked: true })
    const gone = await changed.restart({ AUTH_SECRET_PREVIOUS: '' })
    t.equal((await refresh(gone.app, forgeRefreshToken(authSecret, sidOfOther, 2_000))).statusCode, 400)
    t.equal((await refresh(gone.app, kept.refresh_token)).statusCode, 200)
  },
)

onOneStore('who has a phone reads, logs out and goes on, and takes nothing over', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const phone = await logIn(app)
  const laptop = await logIn(app)
  const call = (url: string, method: 'POST' | 'DELETE', payload: object) =>
    withToken(app, phone.access_token, { method, url, payload })
  const change = { current_password: newPassword, new_password: `${newPassword}!` }
  t.equal((await call('/users/me/password', 'POST', change)).statusCode, 403, 'the password stays')
  t.equal((await call('/users/me', 'DELETE', { password: newPassword })).statusCode, 403, 'and the account')
  const id = claimsOf(phone.access_token)['sid']
  const ended = await withToken(app, laptop.access_token, { method: 'DELETE', url: `/users/me/sessions/${id}` })
  t.equal(ended.statusCode, 204)
  t.notOk(await isAccepted(app, phone.access_token), 'ended from elsewhere, at once')
  t.equal((await refresh(app, phone.refresh_token)).statusCode, 400)
  t.ok(await isAccepted(app, laptop.access_token))
})

/** An access token, made by who has a signing key. */
function forgeAccessToken({ key, kid }: { key: KeyObject; kid: string }, claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const signed = `${part({ alg: 'ES256', typ: 'at+jwt', kid })}.${part(claims)}`
  return `${signed}.${sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

overStores(
  'who has a signing key is whoever they like, an administrator too, until it is revoked',
  async (t, build) => {
    const { app } = await build()
    const { id } = json(await signUp(app, 'root'))
    await storeOf(app).setRoles({ userId: id, expectedRoles: [], roles: ['admin'] })
    const { access_token, refresh_token } = await logIn(app, 'root')
    const { privateKey, kid } = app.signingKeys.current()
    const stolen = { key: privateKey as KeyObject, kid }
    const forged = forgeAccessToken(stolen, { ...claimsOf(access_token), scope: 'admin', sid: randomUUID() })
    t.equal((await withToken(app, forged, { url: '/admin/users' })).statusCode, 200)

    await app.signingKeys.revoke(app, kid)
    t.equal((await withToken(app, forged, { url: '/admin/users' })).statusCode, 401)
    const goesOn = await refresh(app, refresh_token)
    t.ok(await isAccepted(app, json(goesOn).access_token), 'sessions go on')
  },
)

onOneStore('who can write to the store needs no secret: a key of their own is believed', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app, 'root')
  const { access_token } = await logIn(app, 'root')
  const { privateKey: key, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const kid = 'of an attacker'
  const publicJwk = JSON.stringify({ ...publicKey.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' })
  const times = { createdAt: Date.now() + 1, signsFrom: Date.now() + 1 }
  await storeOf(app).addSigningKey({ kid, alg: 'ES256', publicJwk, ...times }, app.signingKeys.current().kid)
  // An unknown kid is looked for once a second.
  clock.passedMs = 2_000
  t.ok(await isAccepted(app, forgeAccessToken({ key, kid }, claimsOf(access_token))))
})
