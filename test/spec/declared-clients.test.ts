import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { ConfigError } from '../../config.ts'
import type { Client } from '../../domain/client.ts'
import declaredClients, { readDeclarations } from '../../plugins/clients/declared-clients.ts'
import {
  basic,
  type Credentials,
  clientCredentials,
  isOAuthError,
  makeClient,
  tokenOf,
  until,
  writeClients,
} from '../support/client-helper.ts'
import {
  type Build,
  challengeTo,
  claimsOf,
  isAccepted,
  json,
  logIn,
  newDir,
  onOneStore,
  overStores,
  password,
  postForm,
  signUp,
  storeOf,
  type TestApp,
  withToken,
} from '../support/helper.ts'

/* AUTH_CLIENTS_FILE. */

const long = (name: string) => name.replaceAll(' ', '-').padEnd(43, '-')
const orders: Credentials = { id: 'orders', secret: long('of orders') }
const files: Credentials = { id: 'files', secret: long('of files') }
const declare = ({ id, secret }: Credentials, more: object = {}) => ({ client_id: id, client_secret: secret, ...more })

/** A secret that no message may hold. */
const canary = 'canary-4f3a9d1c6a1f2e3d4c5b0198f3ce4b7e'

/** Every wrong content, and what its message has to say. */
const wrong: Record<string, [content: unknown, says: RegExp]> = {
  'an empty file': ['', /JSON that can be read, got no JSON/],
  'no JSON': [`{"client_secret": "${canary}"`, /got no JSON/],
  'a comment': [`[] // ${canary}`, /got no JSON/],
  null: ['null', /the list/],
  'a number': ['1', /the list/],
  'a text': [`"${canary}"`, /the list/],
  'an empty object': ['{}', /the list/],
  'an object by id': [{ clients: { orders: canary } }, /the list/],
  'a list of texts': [[canary], /\/0: /],
  'a list in a list': [[[]], /\/0: |\/0\/client_id/],
  'no client_id': [[{ client_secret: canary }], /\/0\/client_id/],
  'a number as client_id': [[{ client_id: 1, client_secret: canary }], /\/0\/client_id/],
  'an empty client_id': [[{ client_id: '', client_secret: canary }], /"".*client_id must be/],
  'a space in a client_id': [[{ client_id: 'a b', client_secret: canary }], /"a b".*client_id must be/],
  'a line break in a client_id': [[{ client_id: 'a\nb', client_secret: canary }], /"a\\nb".*client_id must be/],
  'a long client_id': [[{ client_id: 'x'.repeat(129), client_secret: canary }], /client_id must be/],
  "a user's id": [
    [{ client_id: '0198f3ce-4b7e-4f3a-9d1c-6a1f2e3d4c5b', client_secret: canary }],
    /must not look like the id of a user/,
  ],
  'an empty secret': [[{ client_id: 'a', client_secret: '' }], /\/0\/client_secret/],
  'a secret that is no text': [[{ client_id: 'a', client_secret: 1 }], /\/0\/client_secret/],
  'a secret that is null': [[{ client_id: 'a', client_secret: null }], /\/0\/client_secret/],
  'no secrets in a list': [[{ client_id: 'a', client_secret: [] }], /\/0\/client_secret/],
  'three secrets': [[{ client_id: 'a', client_secret: [canary, 'b', 'c'] }], /\/0\/client_secret/],
  'a secret that is too long': [[{ client_id: 'a', client_secret: canary.repeat(30) }], /\/0\/client_secret/],
  'a confidential client without a secret': [
    [{ client_id: 'a', type: 'confidential' }],
    /"a" a client_secret if it is confidential/,
  ],
  'a public client with a secret': [
    [{ client_id: 'a', type: 'public', client_secret: canary }],
    /none if it is public/,
  ],
  'first-party with a secret': [
    [{ client_id: 'first-party', client_secret: canary }],
    /"first-party".*type must be public/,
  ],
  'a public client with client_credentials': [
    [{ client_id: 'a', grants: ['client_credentials'] }],
    /grants must not have client_credentials/,
  ],
  'a public client that introspects': [
    [{ client_id: 'a', introspect: true }],
    /introspect is for confidential clients/,
  ],
  'an unknown type': [[{ client_id: 'a', client_secret: canary, type: 'secret' }], /\/0\/type/],
  'an unknown grant': [[{ client_id: 'a', client_secret: canary, grants: ['implicit'] }], /\/0\/grants\/0/],
  'a grant twice': [[{ client_id: 'a', client_secret: canary, grants: ['password', 'password'] }], /\/0\/grants/],
  'grants as a text': [[{ client_id: 'a', client_secret: canary, grants: 'password' }], /\/0\/grants/],
  'whether it is first-party as a text': [[{ client_id: 'a', first_party: 'true' }], /\/0\/first_party/],
  'a scope with a space': [[{ client_id: 'a', client_secret: canary, scopes: ['a b'] }], /\/0\/scopes\/0/],
  'an empty scope': [[{ client_id: 'a', client_secret: canary, scopes: [''] }], /\/0\/scopes\/0/],
  'an empty audience': [[{ client_id: 'a', client_secret: canary, audience: '' }], /\/0\/audience/],
  'an introspection right that is none': [
    [{ client_id: 'a', client_secret: canary, introspect: 'ALL' }],
    /\/0\/introspect/,
  ],
  'an unknown member': [[{ client_id: 'a', client_secret: canary, redirect_uri: '' }], /\/0\/redirect_uri/],
  'an address that is none of the client alone': [
    [{ client_id: 'a', redirect_uris: ['https://a.example/cb', 'https://*.a.example'] }],
    /"a" that redirect_uris\/1 must not have a wildcard/,
  ],
  'redirect_uris as a text': [[{ client_id: 'a', redirect_uris: 'https://a.example/cb' }], /\/0\/redirect_uris/],
  'an address after signing out with a fragment': [
    [{ client_id: 'a', post_logout_redirect_uris: ['https://a.example/#'] }],
    /post_logout_redirect_uris\/0 must not have a fragment/,
  ],
  'a private address to be told of logouts': [
    [{ client_id: 'a', client_secret: canary, backchannel_logout_uri: 'https://10.0.0.1/logout' }],
    /backchannel_logout_uri must be one that this service may call: 10\.0\.0\.1 is no public address/,
  ],
  'no PKCE for a public client': [[{ client_id: 'a', pkce: 'optional' }], /"a" that pkce must be required/],
  'an algorithm that signs nothing': [
    [{ client_id: 'a', client_secret: canary, id_token_alg: 'none' }],
    /\/0\/id_token_alg/,
  ],
  'a secret as the name of a member': [[{ client_id: 'a', [`${canary}\n${canary}`]: true }], /\/0/],
  'a client twice': [
    [declare(orders), { client_id: 'b', client_secret: canary }, declare(orders)],
    /"orders" once only/,
  ],
  'the second of two': [{ clients: [declare(orders), { client_id: 'b', secret: canary }] }, /\/1\/secret/],
}

/** A setting that is wrong: one line that names it. */
function isOneLine(t: Test, error: unknown, says: RegExp, what: string): void {
  t.ok(error instanceof ConfigError, what)
  const { message } = error as Error
  t.match(message, /^AUTH_CLIENTS_FILE: expected [\x20-\x7e]+$/, what)
  t.match(message, says, what)
  t.notOk(message.includes(canary), `${what}: no secret`)
}

const errorOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  )

/** Another app on the same data, with other settings. */
function besideWith(build: Build, { config }: TestApp, settings: Record<string, string>): Promise<TestApp> {
  const { DATABASE_URL, AUTH_DATA_DIR, AUTH_SECRET = '', AUTH_CLIENTS_FILE = '' } = config
  return build({
    AUTH_DATA_DIR,
    AUTH_SECRET,
    AUTH_CLIENTS_FILE,
    ...(DATABASE_URL !== undefined && { DATABASE_URL }),
    ...settings,
  })
}

onOneStore(
  'whatever is wrong in AUTH_CLIENTS_FILE stops the start with one line that names it, and no secret',
  async (t, build) => {
    for (const [what, [content, says]] of Object.entries(wrong)) {
      const path = await writeClients(t, content)
      try {
        readDeclarations(path)
        t.fail(`${what} was taken`)
      } catch (error) {
        isOneLine(t, error, says, what)
      }
    }
    const missing = join(await newDir(t), 'nowhere.json')
    isOneLine(t, await errorOf(build({ AUTH_CLIENTS_FILE: missing })), /got ENOENT/, 'a file that is not there')
    isOneLine(t, await errorOf(build({ AUTH_CLIENTS_FILE: await newDir(t) })), /got a directory/, 'a directory')
    const [content, says] = wrong['an unknown grant'] as [unknown, RegExp]
    isOneLine(t, await errorOf(build({ AUTH_CLIENTS_FILE: await writeClients(t, content) })), says, 'at start')
  },
)

onOneStore('a file that is wrong changes nothing in the store', async (t, build) => {
  const path = await writeClients(t, [declare(orders)])
  const test = await build({ AUTH_CLIENTS_FILE: path })
  await test.app.close()
  await writeFile(path, JSON.stringify([declare(files), { client_id: 'a b' }]))
  t.ok((await errorOf(test.restart())) instanceof ConfigError)
  const { app } = await test.restart({ AUTH_CLIENTS_FILE: '' })
  t.ok(await tokenOf(app, orders), 'what was declared before is still there, also without the setting')
  t.equal(await app.store.findClient('files'), undefined)
})

overStores('clients are declared with what they may have; what is not said is little', async (t, build) => {
  const path = await writeClients(t, {
    clients: [
      declare(orders),
      declare(files, {
        type: 'confidential',
        grants: ['client_credentials', 'password', 'refresh_token'],
        scopes: ['files:read'],
        audience: ['https://files.example', 'https://mail.example'],
        introspect: true,
      }),
      declare(
        { id: 'gateway', secret: long('of the gateway') },
        { audience: 'https://files.example', introspect: 'all', grants: [] },
      ),
      { client_id: 'web', grants: ['password'] },
      { client_id: 'nothing' },
      { client_id: 'app', first_party: true },
    ],
  })
  const { app, logs } = await build({ AUTH_CLIENTS_FILE: path })
  const kept = async (id: string) => {
    const { secrets, createdAt, generation, ...rest } = (await app.store.findClient(id)) ?? {}
    return rest
  }
  const declared = { isDeclared: true, scopes: [], audience: [], introspect: 'none', firstParty: false }
  t.same(await kept('orders'), { ...declared, id: 'orders', type: 'confidential', grants: ['client_credentials'] })
  t.same(await kept('files'), {
    ...{
      id: 'files',
      type: 'confidential',
      grants: ['client_credentials', 'password', 'refresh_token'],
      scopes: ['files:read'],
    },
    ...{ audience: ['https://files.example', 'https://mail.example'], introspect: 'audience' },
    ...{ isDeclared: true, firstParty: false },
  })
  t.same(await kept('gateway'), {
    ...{
      ...declared,
      id: 'gateway',
      type: 'confidential',
      grants: [],
      audience: ['https://files.example'],
      introspect: 'all',
    },
  })
  t.same(await kept('web'), { ...declared, id: 'web', type: 'public', grants: ['password'] })
  t.same(await kept('nothing'), { ...declared, id: 'nothing', type: 'public', grants: [] })
  t.same(await kept('app'), {
    ...{ ...declared, id: 'app', type: 'public', firstParty: true },
    grants: ['authorization_code', 'refresh_token'],
  })
  for (const client of [orders, files]) t.ok(await tokenOf(app, client))

  const rows = JSON.stringify(await app.store.exportRows('clients', { limit: 100 }))
  t.notOk(
    [orders, files].some(({ secret }) => rows.includes(secret) || JSON.stringify(logs).includes(secret)),
    'no secret is kept or logged',
  )
  t.equal(logs.filter(({ event }) => event === 'client.created').length, 6)
})

onOneStore('a short secret is taken and warned about, without being repeated', async (t, build) => {
  const weak = { id: 'weak', secret: 'hunter2' }
  const { app, logs } = await build({ AUTH_CLIENTS_FILE: await writeClients(t, [declare(orders), declare(weak)]) })
  t.ok(await tokenOf(app, weak))
  const warnings = logs.filter(({ level, msg }) => level === 40 && String(msg).startsWith('AUTH_CLIENTS_FILE'))
  t.equal(warnings.length, 1)
  t.match(warnings[0]?.['msg'], /"weak" is short/)
  t.notOk(JSON.stringify(logs).includes('hunter2'))
})

onOneStore('a client by which nobody with a second factor could sign in is warned about', async (t, build) => {
  const grants = ['password', 'refresh_token']
  const clients = [
    ...[
      { client_id: 'web', grants },
      { client_id: 'half', grants, first_party: true },
    ],
    ...[{ client_id: 'first-party', grants }, { client_id: 'service' }],
    { client_id: 'app', grants: [...grants, 'authorization_code'], first_party: true },
  ]
  const { logs } = await build({ AUTH_CLIENTS_FILE: await writeClients(t, clients) })
  const warnings = logs.filter(({ level, msg }) => level === 40 && String(msg).startsWith('AUTH_CLIENTS_FILE'))
  t.match(warnings, [{ msg: /"web".*"first_party": true/ }, { msg: /"half".*authorization_code/ }])
  t.equal(warnings.length, 2)
})

overStores('a start that finds nothing new changes nothing', async (t, build) => {
  const path = await writeClients(t, [declare(orders, { scopes: ['a', 'b'] }), { client_id: 'web' }])
  const first = await build({ AUTH_CLIENTS_FILE: path })
  const token = await tokenOf(first.app, orders)
  const before = await first.app.store.exportRows('clients', { limit: 100 })
  first.clock.now += 1000
  const second = await first.restart()
  t.same(await second.app.store.exportRows('clients', { limit: 100 }), before)
  t.notOk(second.logs.some(({ event }) => String(event).startsWith('client.')))
  await second.app.clients.disable(second.app, 'orders')
  const disabled = await second.app.store.exportRows('clients', { limit: 100 })
  const third = await second.restart()
  t.same(await third.app.store.exportRows('clients', { limit: 100 }), disabled, 'one that is disabled neither')
  t.equal((await withToken(third.app, token, { url: '/verify' })).statusCode, 401)

  // As a release stored it that knew no first-party apps.
  const { firstParty: _, ...older } = (await third.app.store.findClient('web')) as Client
  await storeOf(third.app).replaceClient({ ...older, generation: older.generation + 1 })
  const fourth = await third.restart()
  t.notOk(
    fourth.logs.some(({ event }) => String(event).startsWith('client.')),
    'nor a row of an earlier release',
  )
})

overStores('what the file says at the next start holds: changed, added, removed', async (t, build) => {
  const path = await writeClients(t, [declare(orders, { scopes: ['a'] }), declare(files)])
  const first = await build({ AUTH_CLIENTS_FILE: path })
  const made = await makeClient(first.app, { id: 'made' })
  const [ofOrders, ofFiles, ofMade] = [
    await tokenOf(first.app, orders),
    await tokenOf(first.app, files),
    await tokenOf(first.app, made),
  ]

  const mail = { id: 'mail', secret: long('of mail') }
  const changed = { ...orders, secret: long('another of orders') }
  await writeFile(path, JSON.stringify([declare(changed, { scopes: ['b'] }), declare(mail)]))
  first.clock.now += 1000
  const { app, logs } = await first.restart()
  isOAuthError(t, await clientCredentials(app, orders), 401, 'invalid_client', 'the secret before')
  t.equal(json(await clientCredentials(app, changed)).scope, 'b', 'changed')
  t.ok(await tokenOf(app, mail), 'added')
  isOAuthError(t, await clientCredentials(app, files), 401, 'invalid_client', 'removed')
  t.equal(await app.store.findClient('files'), undefined)
  const check = async (token: string) => (await withToken(app, token, { url: '/verify' })).statusCode
  t.equal(await check(ofFiles), 401, 'and so are its tokens')
  t.equal(await check(ofOrders), 204)
  t.same(
    [(await clientCredentials(app, made)).statusCode, await check(ofMade)],
    [200, 204],
    'one that somebody made is left alone',
  )
  const events = logs
    .filter(({ event }) => String(event).startsWith('client.'))
    .map(({ event, client_id }) => `${event} ${client_id}`)
  t.same(events.filter((event) => !event.includes('refused')).sort(), [
    'client.changed orders',
    'client.created mail',
    'client.deleted files',
  ])

  await writeFile(path, '[]')
  const last = await first.restart()
  t.same(
    (await last.app.store.exportRows('clients', { limit: 100 })).rows.map(({ id }) => id),
    ['made'],
  )
})

onOneStore(
  'a client that was disabled stays so when its declaration changes, and a client that somebody made can be declared',
  async (t, build) => {
    const path = await writeClients(t, [declare(orders)])
    const first = await build({ AUTH_CLIENTS_FILE: path })
    await first.app.clients.disable(first.app, 'orders')
    const made = await makeClient(first.app, { id: 'files' })
    await writeFile(path, JSON.stringify([declare(orders, { scopes: ['a'] }), declare(files)]))
    const { app } = await first.restart()
    t.match(await app.store.findClient('orders'), { scopes: ['a'], disabledAt: Number })
    isOAuthError(t, await clientCredentials(app, orders), 401, 'invalid_client', 'disabled')
    isOAuthError(t, await clientCredentials(app, made), 401, 'invalid_client', 'the secret that was made')
    t.ok(await tokenOf(app, files))
    const rotated = await errorOf(app.clients.rotateSecret(app, 'files', 0))
    t.match(rotated, { statusCode: 400, detail: /AUTH_CLIENTS_FILE/ }, 'the secret is in the file, and nowhere else')
  },
)

onOneStore('two secrets are good while the file has both', async (t, build) => {
  const [one, two, three] = ['one', 'two', 'three'].map((name) => ({
    id: 'orders',
    secret: long(name),
  })) as Credentials[]
  const path = await writeClients(t, [{ client_id: 'orders', client_secret: [one?.secret, two?.secret] }])
  const first = await build({ AUTH_CLIENTS_FILE: path })
  const good = async (app: FastifyInstance) => {
    const statuses = []
    for (const client of [one, two, three])
      statuses.push((await clientCredentials(app, client as Credentials)).statusCode)
    return statuses
  }
  t.same(await good(first.app), [200, 200, 401])
  await writeFile(path, JSON.stringify([{ client_id: 'orders', client_secret: [two?.secret, three?.secret] }]))
  const second = await first.restart()
  t.same(await good(second.app), [401, 200, 200])
  await writeFile(path, JSON.stringify([{ client_id: 'orders', client_secret: three?.secret }]))
  const third = await second.restart()
  t.same(await good(third.app), [401, 401, 200])
  t.equal((await third.app.store.findClient('orders'))?.secrets.length, 1)
})

onOneStore(
  'a change of AUTH_SECRET: replicas before and after it serve declared clients beside each other',
  async (t, build) => {
    const [a, b] = ['a'.repeat(32), 'b'.repeat(32)] as const
    const path = await writeClients(t, [declare(orders)])
    const old = await build({ AUTH_CLIENTS_FILE: path, AUTH_SECRET: a, AUTH_SECRET_PREVIOUS: b })
    const changed = await besideWith(build, old, { AUTH_SECRET: b, AUTH_SECRET_PREVIOUS: a })
    t.ok(await tokenOf(old.app, orders), 'the old replica, after the new one has started')
    t.ok(await tokenOf(changed.app, orders))
    const generation = (await changed.app.store.findClient('orders'))?.generation
    const again = await besideWith(build, changed, { AUTH_SECRET: b, AUTH_SECRET_PREVIOUS: a })
    t.equal((await again.app.store.findClient('orders'))?.generation, generation, 'another start has nothing to do')
    await old.app.close()

    // The new secret seals a new signing key as soon as that is published for long enough.
    for (let round = 0; round < 2; round += 1) {
      changed.clock.now += 11 * 60_000
      await changed.app.signingKeys.poll()
    }
    const last = await changed.restart({ AUTH_SECRET_PREVIOUS: '' })
    t.ok(await tokenOf(last.app, orders), 'when the previous one is forgotten')
    t.equal((await last.app.store.findClient('orders'))?.secrets.length, 1, 'what it keyed is gone')
  },
)

overStores('processes that apply the file at once on one store agree', async (t, build) => {
  const path = await writeClients(t, [])
  const tests = [await build({ AUTH_CLIENTS_FILE: path })]
  for (let count = 1; count < 4; count += 1) tests.push(await (tests[0] as TestApp).beside())
  const apply = async (clients: object[]) => {
    await writeFile(path, JSON.stringify(clients))
    await Promise.all(tests.map(({ app }) => (declaredClients as (app: FastifyInstance) => Promise<void>)(app)))
  }
  const count = (name: string) => tests.flatMap(({ logs }) => logs.filter(({ event }) => event === name)).length

  await apply([declare(orders), declare(files)])
  for (const { app } of tests) for (const client of [orders, files]) t.ok(await tokenOf(app, client))
  t.equal(count('client.created'), 2, 'each is made once')

  const changed = { ...orders, secret: long('another') }
  await apply([declare(changed, { scopes: ['a'] })])
  for (const { app } of tests) {
    t.equal(json(await clientCredentials(app, changed)).scope, 'a')
    await until(async () => (await clientCredentials(app, files)).statusCode === 401)
  }
  t.same([count('client.changed'), count('client.deleted')], [1, 1], 'each is changed, or removed, once')
})

overStores('more clients than a page are declared and removed', async (t, build) => {
  const many = Array.from({ length: 105 }, (_, i) => ({ client_id: `client-${i}` }))
  const path = await writeClients(t, many)
  const first = await build({ AUTH_CLIENTS_FILE: path })
  t.equal((await first.app.store.exportRows('clients', { limit: 1000 })).rows.length, 105)
  await writeFile(path, JSON.stringify([{ client_id: 'client-7' }]))
  const { app } = await first.restart()
  t.same(
    (await app.store.exportRows('clients', { limit: 1000 })).rows.map(({ id }) => id),
    ['client-7'],
  )
})

onOneStore('first-party can be declared as another public client', async (t, build) => {
  const path = await writeClients(t, [{ client_id: 'first-party', grants: ['password'], scopes: ['a'] }])
  const { app } = await build({ AUTH_CLIENTS_FILE: path })
  await signUp(app)
  const answer = json(await postForm(app, '/token', { username: 'ada', password }))
  t.same(Object.keys(answer).sort(), ['access_token', 'expires_in', 'scope', 'token_type'])
  t.equal(claimsOf(answer.access_token)['scope'], 'a')
  t.ok(await isAccepted(app, answer.access_token))
  isOAuthError(
    t,
    await postForm(app, '/token', { username: 'ada', password }, basic({ id: 'first-party', secret: 'x' })),
    401,
    'invalid_client',
  )
})

onOneStore(
  'first-party that is not declared any more is the built-in one again, and serves at once',
  async (t, build) => {
    await t.test('its new tokens are good', async (t) => {
      const path = await writeClients(t, [
        { client_id: 'first-party', grants: ['password', 'refresh_token'], scopes: [] },
      ])
      const first = await build({ AUTH_CLIENTS_FILE: path })
      await signUp(first.app)
      await writeFile(path, '[]')
      first.clock.now += 1000
      const { app } = await first.restart()
      t.equal(await challengeTo(app, (await logIn(app)).access_token), undefined)
    })
  },
)

onOneStore('a client that may not refresh any more may not at POST /refresh either', async (t, build) => {
  await t.test('unauthorized_client', async (t) => {
    const path = await writeClients(t, [])
    const first = await build({ AUTH_CLIENTS_FILE: path })
    await signUp(first.app)
    const { refresh_token } = await logIn(first.app)
    await writeFile(path, JSON.stringify([{ client_id: 'first-party', grants: ['password'] }]))
    const { app } = await first.restart()
    isOAuthError(
      t,
      await postForm(app, '/token', { grant_type: 'refresh_token', refresh_token }),
      400,
      'unauthorized_client',
      '/token',
    )
    isOAuthError(t, await postForm(app, '/refresh', { refresh_token }), 400, 'unauthorized_client', '/refresh')
  })
})
