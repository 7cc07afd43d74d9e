import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import {
  basic,
  type Credentials,
  clientCredentials,
  failStore,
  formEncode,
  from,
  inForm,
  introspect,
  isOAuthError,
  makeClient,
  makeClientWithChosenSecret,
  rawBasic,
  tokenOf,
  until,
  watchStore,
  writeClients,
} from '../support/client-helper.ts'
import {
  cheapHashing,
  claimsOf,
  json,
  listen,
  logIn,
  newDir,
  onOneStore,
  overStores,
  password,
  postForm,
  signUp,
} from '../support/helper.ts'

/* Client authentication, RFC 6749 §2.3: `client_secret_basic` and `client_secret_post`. */

const challenge = 'Basic realm="latchkey", charset="UTF-8"'
const grant = { grant_type: 'client_credentials' }

const byBasic = (app: FastifyInstance, client: Credentials, options: InjectOptions = {}) =>
  postForm(app, '/token', grant, { ...options, ...basic(client) })
const byPost = (app: FastifyInstance, client: Credentials, options: InjectOptions = {}) =>
  postForm(app, '/token', { ...grant, ...inForm(client) }, options)
const methods = { client_secret_basic: byBasic, client_secret_post: byPost }

const ids = [
  'orders',
  'a+b',
  'a%2Bb',
  '%',
  '&=',
  'a:b',
  '"\'\\',
  'https://orders.example/?a=1#b',
  '!#$()*,;<>[]^_`{|}~',
  'x'.repeat(128),
]
const secrets = [
  'plain',
  'a+b',
  'a b',
  'a%2Bb',
  '%',
  '%zz',
  '&client_id=another',
  'a=b',
  ':',
  'a:b:c',
  '"',
  "'",
  '\\',
  'é',
  'e\u0301',
  '漢字',
  '😀',
  ' leading and trailing ',
  '\t\r\n',
  '\ufffd',
  '\u007f',
  'x'.repeat(1024),
]

onOneStore('ids and secrets are form-decoded after base64, whatever characters are in them', async (t, build) => {
  const clients = secrets.map((secret, i) => ({ id: ids[i] ?? `client-${i}`, secret }))
  const file = await writeClients(
    t,
    clients.map(({ id, secret }) => ({ client_id: id, client_secret: secret })),
  )
  const { app } = await build({ AUTH_CLIENTS_FILE: file, AUTH_THROTTLE: 'off' })
  for (const client of clients) {
    const what = JSON.stringify([client.id, client.secret])
    for (const [method, send] of Object.entries(methods)) {
      const response = await send(app, client)
      t.equal(response.statusCode, 200, `${method} ${what}`)
      t.equal(claimsOf(json(response).access_token)['sub'], client.id)
      const wrong = await send(app, { ...client, secret: `${client.secret} ` })
      isOAuthError(t, wrong, 401, 'invalid_client', `${method} ${what} and a space`)
    }
    const spacesAsPercent = `${encodeURIComponent(client.id)}:${encodeURIComponent(client.secret)}`
    t.equal((await postForm(app, '/token', grant, rawBasic(spacesAsPercent))).statusCode, 200, 'a space may be %20')
  }
})

onOneStore('a secret in Basic is decoded once, or is the text as it was sent, RFC 6749 §2.3.1', async (t, build) => {
  const secrets = { plus: 'a+b', percent: 'a%2Bb', twice: 'a%252Bb', case: 'a%2bb', space: 'a b', broken: 'a%zz+%' }
  const clients = Object.entries(secrets).map(([client_id, client_secret]) => ({ client_id, client_secret }))
  const { app } = await build({ AUTH_CLIENTS_FILE: await writeClients(t, clients), AUTH_THROTTLE: 'off' })
  /** Whose secret the text after the colon is taken for. */
  const sent: Record<string, string[]> = {
    'a+b': ['space', 'plus'],
    'a%20b': ['space'],
    'a b': ['space'],
    'a%2Bb': ['plus', 'percent'],
  }
  Object.assign(sent, {
    'a%2bb': ['plus', 'case'],
    'a%252Bb': ['percent', 'twice'],
    'a%25252Bb': ['twice'],
    'a%252bb': ['case'],
  })
  Object.assign(sent, {
    'a%zz+%': ['broken'],
    'a%25zz%2B%25': ['broken'],
    'a%zz+%25': [],
    'a%zz %': [],
    'A+b': [],
    'a++b': [],
  })
  for (const [text, meant] of Object.entries(sent)) {
    for (const id of Object.keys(secrets)) {
      const response = await postForm(app, '/token', grant, rawBasic(`${id}:${text}`))
      if (meant.includes(id)) t.equal(response.statusCode, 200, `${text} is the secret of ${id}`)
      else isOAuthError(t, response, 401, 'invalid_client', `${text} is not that of ${id}`)
    }
  }
  t.equal(
    (await postForm(app, '/token', grant, rawBasic('%70lus:%61%2B%62'))).statusCode,
    200,
    'what need not be encoded may be',
  )
})

onOneStore(
  'what openssl rand -base64 makes works as people send it: by curl -u and curl -d, encoded and not',
  async (t, build) => {
    const made = [
      'aB3+dE5/gH7+jK9mN1pQ3rS5tU7vW9xY1zA3bC5dE7=',
      '++//==++//==++//==++//==++//==+=',
      'p%41ss&word=with+every thing:é',
      '%%%%',
    ]
    const clients = made.map((client_secret, i) => ({
      client_id: ['svc', 'my+svc', 'a%2Bb', 'https://x.example/?a=1+1'][i],
      client_secret,
    }))
    const { app, logs } = await build({
      AUTH_CLIENTS_FILE: await writeClients(t, [
        ...clients,
        { client_id: 'safe', client_secret: 'f'.repeat(64) },
        { client_id: 'https://*' },
      ]),
    })
    const warned = logs
      .filter(({ level, msg }) => level === 40 && /openssl rand -hex 32/.test(String(msg)))
      .map(({ msg }) => String(msg))
    t.equal(warned.length, 4, 'each that is not safe is warned about')
    for (const secret of made) t.notMatch(warned.join(), secret, 'without its secret')
    const calls = watchStore(app, /recordFailure/)
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    for (const { client_id: id = '', client_secret: secret } of clients) {
      const post = (payload: string) => app.inject({ method: 'POST', url: '/token', headers: form, payload })
      t.equal((await byBasic(app, { id, secret })).statusCode, 200, `encoded in Basic: ${secret}`)
      t.equal((await byPost(app, { id, secret })).statusCode, 200, `encoded in a form: ${secret}`)
      if (!id.includes(':'))
        t.equal(
          (await postForm(app, '/token', grant, rawBasic(`${id}:${secret}`))).statusCode,
          200,
          `curl -u: ${secret}`,
        )
      if (/[%&]/.test(id + secret)) continue
      t.equal(
        (await post(`grant_type=client_credentials&client_id=${id}&client_secret=${secret}`)).statusCode,
        200,
        `curl -d: ${secret}`,
      )
    }
    t.equal(calls.length, 0, 'and none of it is a failure')
    for (let count = 0; count < 10; count++)
      t.equal((await postForm(app, '/token', grant, rawBasic(`my+svc:wrong+${count}`))).statusCode, 401)
    t.equal(calls.length, 10, 'both readings of a wrong one are one failure')
    t.equal((await postForm(app, '/token', grant, rawBasic('my+svc:wrong+again'))).statusCode, 429)
    t.equal(
      (await postForm(app, '/token', { ...grant, client_id: 'my+svc' }, rawBasic('my+svc:wrong+again'))).statusCode,
      429,
      'named twice',
    )
    isOAuthError(
      t,
      await postForm(app, '/token', { ...grant, client_id: 'my-svc' }, rawBasic('my+svc:x')),
      400,
      'invalid_request',
    )
  },
)

onOneStore('secrets differ by Unicode form, case and what follows them', async (t, build) => {
  const file = await writeClients(t, [{ client_id: 'orders', client_secret: 'Caf\u00e9' }])
  const { app } = await build({ AUTH_CLIENTS_FILE: file, AUTH_THROTTLE: 'off' })
  for (const secret of ['Cafe\u0301', 'caf\u00e9', 'Caf\u00e9\n', 'Caf\u00e9\u0000', 'Caf', '']) {
    const response = await byBasic(app, { id: 'orders', secret })
    isOAuthError(t, response, 401, 'invalid_client', JSON.stringify(secret))
  }
  isOAuthError(
    t,
    await byBasic(app, { id: 'Orders', secret: 'Caf\u00e9' }),
    401,
    'invalid_client',
    'an id of another case',
  )
  t.equal((await byBasic(app, { id: 'orders', secret: 'Caf\u00e9' })).statusCode, 200)
})

onOneStore('the scheme has no case, and base64 may be padded or not', async (t, build) => {
  const { app } = await build()
  for (const id of ['a', 'ab', 'abc']) {
    const client = await makeClient(app, { id })
    const encoded = Buffer.from(`${client.id}:${client.secret}`).toString('base64')
    for (const value of [encoded, encoded.replace(/=+$/, '')]) {
      for (const scheme of ['Basic', 'basic', 'BASIC', 'bAsIc']) {
        const response = await postForm(app, '/token', grant, { headers: { authorization: `${scheme} ${value}` } })
        t.equal(response.statusCode, 200, `${scheme} ${value.length}`)
      }
    }
    t.equal(
      (await postForm(app, '/token', grant, { headers: { authorization: `Basic   ${encoded}` } })).statusCode,
      200,
      '1*SP',
    )
  }
})

onOneStore('Basic credentials that cannot be read are invalid_client with a challenge', async (t, build) => {
  const { app, logs } = await build({ AUTH_THROTTLE: 'off' })
  const { id, secret } = await makeClient(app, { id: 'orders' })
  const encoded = Buffer.from(`${id}:${secret}`).toString('base64')
  const values = {
    'no value': 'Basic',
    'an empty value': 'Basic ',
    'no base64': 'Basic !!!!',
    base64url: `Basic ${Buffer.from('a:\xff\xfe\xfd?>').toString('base64url')}-_`,
    'two values': `Basic ${encoded} ${encoded}`,
    'a comma': `Basic ${encoded},${encoded}`,
    'padding in the middle': `Basic ${encoded}==${encoded}`,
    quotes: `Basic "${encoded}"`,
    'no colon': rawBasic(`${id}${secret}`).headers.authorization,
    nothing: rawBasic('').headers.authorization,
    'a bad escape': rawBasic(`${id}:%zz`).headers.authorization,
    'half an escape': rawBasic(`${id}:${secret}%2`).headers.authorization,
    'an escape that is no UTF-8': rawBasic(`${id}:%ff`).headers.authorization,
    'bytes that are no UTF-8': rawBasic(Buffer.from(`${id}:\xff`, 'latin1')).headers.authorization,
    'no id': rawBasic(`:${secret}`).headers.authorization,
    'an empty secret': rawBasic(`${id}:`).headers.authorization,
    'only the secret': rawBasic(secret).headers.authorization,
  }
  for (const [what, authorization] of Object.entries(values)) {
    for (const url of ['/token', '/revoke', '/introspect']) {
      const response = await postForm(app, url, { ...grant, token: 'x' }, { headers: { authorization } })
      isOAuthError(t, response, 401, 'invalid_client', `${what} at ${url}`)
      t.equal(response.headers['www-authenticate'], challenge)
    }
    t.equal(
      (await app.inject({ url: '/revocations', headers: { authorization } })).statusCode,
      401,
      `${what} at /revocations`,
    )
  }
  t.notOk(JSON.stringify(logs).includes(secret), 'and the log repeats none of them')
})

onOneStore(
  'an empty secret is no secret: right for a public client, wrong for a confidential one',
  async (t, build) => {
    const { app } = await build()
    await signUp(app)
    const orders = await makeClient(app, { id: 'orders', grants: ['client_credentials', 'password'] })
    const login = { grant_type: 'password', username: 'ada', password }
    t.equal((await postForm(app, '/token', login, rawBasic('first-party:'))).statusCode, 200)
    t.equal((await postForm(app, '/token', { ...login, client_id: 'first-party', client_secret: '' })).statusCode, 200)
    const empty = { ...orders, secret: '' }
    for (const fields of [grant, login]) {
      isOAuthError(t, await postForm(app, '/token', fields, basic(empty)), 401, 'invalid_client')
      isOAuthError(t, await postForm(app, '/token', { ...fields, ...inForm(empty) }), 401, 'invalid_client')
      isOAuthError(t, await postForm(app, '/token', { ...fields, client_id: 'orders' }), 401, 'invalid_client')
    }
  },
)

onOneStore('credentials in two places are invalid_request', async (t, build) => {
  const { app } = await build()
  const orders = await makeClient(app, { id: 'orders' })
  const another = await makeClient(app, { id: 'another' })
  const send = (fields: Record<string, string>, client = orders) =>
    postForm(app, '/token', { ...grant, ...fields }, basic(client))
  isOAuthError(t, await send(inForm(orders)), 400, 'invalid_request', 'the same twice')
  isOAuthError(t, await send(inForm(another)), 400, 'invalid_request', 'those of two clients')
  isOAuthError(t, await send({ client_secret: orders.secret }), 400, 'invalid_request', 'a second secret')
  isOAuthError(t, await send({ client_secret: 'wrong' }), 400, 'invalid_request', 'a second secret that is wrong')
  isOAuthError(t, await send({ client_id: 'another' }), 400, 'invalid_request', 'another client_id')
  isOAuthError(t, await send({ client_id: 'Orders' }), 400, 'invalid_request', 'another case')
  isOAuthError(
    t,
    await send(inForm(orders), { ...orders, secret: '' }),
    400,
    'invalid_request',
    'an empty one in the header',
  )
  isOAuthError(
    t,
    await send({ client_id: 'orders' }, { id: '', secret: '' }),
    401,
    'invalid_client',
    'nobody in the header',
  )
  for (const url of ['/revoke', '/introspect']) {
    isOAuthError(
      t,
      await postForm(app, url, { token: 'x', ...inForm(orders) }, basic(orders)),
      400,
      'invalid_request',
      url,
    )
  }
  t.equal((await send({ client_id: 'orders' })).statusCode, 200, 'the client_id may be said twice')
  t.equal(
    (await send({ client_id: 'orders', client_secret: '' })).statusCode,
    200,
    'an empty parameter is none (RFC 6749 §3.2)',
  )
  t.equal((await send({ client_id: '' })).statusCode, 200)
})

onOneStore('credentials in the query are ignored', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const orders = await makeClient(app, { id: 'orders', introspect: 'all' })
  const query = new URLSearchParams(inForm(orders))
  isOAuthError(
    t,
    await postForm(app, `/token?${query}`, grant),
    400,
    'unauthorized_client',
    'it is first-party that asks',
  )
  isOAuthError(t, await postForm(app, `/token?${query}`, { ...grant, client_id: 'orders' }), 401, 'invalid_client')
  const introspection = await postForm(app, `/introspect?${query}`, { token: (await logIn(app)).access_token })
  isOAuthError(t, introspection, 401, 'invalid_client', '/introspect')
  t.equal((await app.inject({ url: `/revocations?${query}` })).statusCode, 401)
  t.equal((await postForm(app, '/token?client_id=another&client_secret=x', grant, basic(orders))).statusCode, 200)
})

/** An answer without what is its own in each. */
function comparable({ statusCode, headers, body }: LightMyRequestResponse) {
  const { 'x-request-id': id, date: _, ...rest } = headers
  return JSON.stringify([statusCode, Object.entries(rest), body.replaceAll(String(id), 'id')])
}

onOneStore(
  'an unknown client, a wrong secret and a disabled client are answered alike, to the byte',
  async (t, build) => {
    const { app, logs } = await build()
    const [orders, disabled] = [await makeClient(app, { id: 'orders' }), await makeClient(app, { id: 'disabled' })]
    await app.clients.disable(app, 'disabled')
    await app.clients.create(app, {
      id: 'web',
      type: 'public',
      grants: ['password'],
      scopes: [],
      audience: [],
      introspect: 'none',
    })
    const cases: Record<string, Credentials> = {
      'unknown client': { id: 'nobody', secret: orders.secret },
      'wrong secret': { ...orders, secret: 'wrong' },
      'disabled client': disabled,
      'disabled client, wrong secret': { ...disabled, secret: 'wrong' },
      'public client': { id: 'web', secret: 'any' },
      'built-in client': { id: 'first-party', secret: 'any' },
      'unacceptable id': { id: 'no body', secret: 'any' },
    }
    for (const [method, send] of Object.entries(methods)) {
      const seen = new Set<string>()
      for (const client of Object.values(cases)) {
        const response = await send(app, client)
        isOAuthError(t, response, 401, 'invalid_client')
        t.equal(response.headers['www-authenticate'], method === 'client_secret_basic' ? challenge : undefined)
        seen.add(comparable(response))
      }
      t.equal(seen.size, 1, method)
    }
    const withoutSecret = ['nobody', 'orders', 'disabled', 'no body'].map((id) =>
      postForm(app, '/token', { ...grant, client_id: id }),
    )
    t.equal(new Set((await Promise.all(withoutSecret)).map(comparable)).size, 1, 'and so they are without a secret')
    const reasons = new Set(logs.filter(({ event }) => event === 'client.refused').map(({ reason }) => reason))
    t.same([...reasons].sort(), ['disabled client', 'unknown client', 'wrong secret'], 'only the log tells them apart')
  },
)

onOneStore(
  'an unknown client, a wrong secret and a disabled client cost the same calls of the store',
  async (t, build) => {
    const { app } = await build()
    const [orders, disabled] = [await makeClient(app, { id: 'orders' }), await makeClient(app, { id: 'disabled' })]
    await app.clients.disable(app, 'disabled')
    const calls = watchStore(app, /client|failure/i)
    const work = async (client: Credentials) => {
      calls.length = 0
      isOAuthError(t, await byBasic(app, client), 401, 'invalid_client')
      return [...calls].sort()
    }
    const expected = ['findClient', 'findFailures', 'recordFailure']
    for (const round of ['at first', 'known from before']) {
      t.same(await work({ ...orders, secret: 'wrong' }), expected, `wrong secret, ${round}`)
      t.same(await work({ id: 'nobody', secret: 'wrong' }), expected, `unknown client, ${round}`)
      t.same(await work(disabled), expected, `disabled client, ${round}`)
      t.same(await work({ id: 'first-party', secret: 'wrong' }), expected, `public client, ${round}`)
    }
    await until(async () => {
      calls.length = 0
      t.equal((await byBasic(app, orders)).statusCode, 200)
      return calls.length === 0
    })
    t.pass('a client that has just been here costs none')
  },
)

/** Guesses ten times: all that are allowed in a row. */
async function guess(app: FastifyInstance, id: string, options: InjectOptions): Promise<number[]> {
  const statuses = []
  for (let count = 0; count < 10; count += 1)
    statuses.push((await byBasic(app, { id, secret: `guess ${count}` }, options)).statusCode)
  return statuses
}
const tenRefusals = Array(10).fill(401)

onOneStore(
  'guessing a secret is throttled after ten in a row from one prefix; another prefix is still served',
  async (t, build) => {
    const { app, clock, beside } = await build()
    const orders = await makeClientWithChosenSecret(app, { id: 'orders' })
    const [guesser, neighbour, elsewhere] = [from('203.0.113.7'), from('203.0.113.200'), from('198.51.100.1')]
    t.same(await guess(app, 'orders', guesser), tenRefusals)
    for (const send of Object.values(methods)) {
      const waiting = await send(app, { ...orders, secret: 'wrong' }, guesser)
      t.equal(waiting.statusCode, 429)
      t.equal(waiting.headers['retry-after'], '30')
      t.notOk(waiting.headers['www-authenticate'])
    }
    t.equal(
      (await byBasic(app, orders, neighbour)).statusCode,
      429,
      'the right secret waits too, or guessing would go on',
    )
    t.equal((await introspect(app, orders, 'x', {})).statusCode, 403, 'another prefix is served')
    t.equal((await byBasic(app, orders, elsewhere)).statusCode, 200, 'and another')
    t.equal((await byBasic((await beside()).app, orders, guesser)).statusCode, 429, 'every process counts')

    clock.now += 30_000
    t.equal((await byBasic(app, { ...orders, secret: 'wrong' }, guesser)).statusCode, 401, 'one more after the wait')
    t.equal((await byBasic(app, orders, guesser)).headers['retry-after'], '60', 'which doubles it')
    clock.now += 60_000
    t.equal((await byBasic(app, orders, guesser)).statusCode, 200)
    t.same(await guess(app, 'orders', guesser), tenRefusals, 'a right secret has begun the count anew')
  },
)

onOneStore(
  'a generated secret, which cannot be guessed, is taken during a wait: a neighbour with an old one locks nobody out',
  async (t, build) => {
    const { app } = await build()
    const orders = await makeClient(app, { id: 'orders' })
    t.same(await guess(app, 'orders', {}), tenRefusals)
    t.equal((await byBasic(app, { ...orders, secret: 'wrong' })).statusCode, 429)
    t.equal((await byBasic(app, orders)).statusCode, 200)
    t.equal((await byBasic(app, { ...orders, secret: 'wrong' })).statusCode, 429, 'and whoever guesses waits on')
  },
)

onOneStore('an empty id with an empty secret is no client at all: login forms send it', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const login = await postForm(app, '/token', { username: 'ada', password }, rawBasic(':'))
  t.equal(login.statusCode, 200, 'it is first-party')
  const orders = await makeClient(app, { id: 'orders' })
  t.equal(
    (await postForm(app, '/token', { ...grant, ...inForm(orders) }, rawBasic(':'))).statusCode,
    200,
    'or who the form says',
  )
  isOAuthError(t, await postForm(app, '/introspect', { token: 'x' }, rawBasic(':')), 401, 'invalid_client')
})

onOneStore('an id that nobody has is throttled alike', async (t, build) => {
  const { app } = await build()
  for (const id of ['nobody', 'first-party', '__proto__', 'no body']) {
    t.same(await guess(app, id, {}), tenRefusals, id)
    const waiting = await byBasic(app, { id, secret: 'another' })
    t.same([waiting.statusCode, waiting.headers['retry-after']], [429, '30'], id)
  }
  t.ok(await tokenOf(app, await makeClient(app, { id: 'orders' })), 'other clients are served')
})

overStores('guesses that come together are throttled as if they came one after the other', async (t, build) => {
  const { app } = await build()
  await makeClient(app, { id: 'orders' })
  const secrets = Array.from({ length: 60 }, (_, i) => `guess ${i}`)
  const answers = await Promise.all(secrets.map((secret) => byBasic(app, { id: 'orders', secret })))
  const refused = answers.filter(({ statusCode }) => statusCode === 401).length
  t.ok(refused > 0 && refused <= 10, `${refused} were looked at`)
  t.equal(answers.filter(({ statusCode }) => statusCode === 429).length, 60 - refused)
})

onOneStore('a right guess does not overtake the wrong ones that came before it', async (t, build) => {
  const { app } = await build()
  const orders = await makeClientWithChosenSecret(app, { id: 'orders' })
  for (const round of ['at first', 'known from before']) {
    const elsewhere = from(round === 'at first' ? '198.51.100.1' : '203.0.113.1')
    const secrets = [...Array.from({ length: 59 }, (_, i) => `guess ${i}`), orders.secret]
    const answers = await Promise.all(secrets.map((secret) => byBasic(app, { id: 'orders', secret }, elsewhere)))
    t.equal(answers.at(-1)?.statusCode, 429, round)
  }
})

onOneStore('a wait holds in the first second of a process too', async (t) => {
  const uptimeMs = () => 10
  const settings = {
    ...cheapHashing,
    AUTH_ISSUER: 'http://localhost:3000',
    AUTH_DATA_DIR: await newDir(t),
    LOG_LEVEL: 'silent',
  }
  const app = await buildApp(readConfig(settings), { uptimeMs })
  t.teardown(() => app.close())
  const orders = await makeClientWithChosenSecret(app, { id: 'orders' })
  t.same(await guess(app, 'orders', {}), tenRefusals)
  t.equal((await byBasic(app, orders)).statusCode, 429)
})

onOneStore('a client that is throttled is so wherever it authenticates', async (t, build) => {
  const { app } = await build()
  const orders = await makeClientWithChosenSecret(app, { id: 'orders', introspect: 'all' })
  await guess(app, 'orders', {})
  for (const url of ['/token', '/revoke', '/introspect']) {
    t.equal((await postForm(app, url, { ...grant, token: 'x' }, basic(orders))).statusCode, 429, url)
  }
  const followed = await app.inject({ url: '/revocations', ...basic(orders) })
  t.same([followed.statusCode, followed.headers['retry-after']], [429, '30'], '/revocations')
  t.match(followed.headers['content-type'], /problem\+json/)
})

onOneStore('odd client ids are unknown clients and nothing else', async (t, build) => {
  const { app, logs } = await build({ AUTH_THROTTLE: 'off' })
  const odd = [
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    'first-party',
    'first-party ',
    'undefined',
    'null',
    '0',
    '*',
  ]
  odd.push('x'.repeat(10_000), 'é', '漢', '😀', ' ', '../first-party', "' OR 1=1 --", 'jndi:x', 'a\tb')
  for (const id of odd) {
    const what = JSON.stringify(id.slice(0, 20))
    isOAuthError(t, await byPost(app, { id, secret: 'x' }), 401, 'invalid_client', `post ${what}`)
    isOAuthError(t, await byBasic(app, { id, secret: 'x' }), 401, 'invalid_client', `basic ${what}`)
    if (id === 'first-party') continue
    isOAuthError(
      t,
      await postForm(app, '/token', { ...grant, client_id: id }),
      401,
      'invalid_client',
      `no secret ${what}`,
    )
    isOAuthError(
      t,
      await postForm(app, '/revoke', { token: 'x', client_id: id }),
      401,
      'invalid_client',
      `/revoke ${what}`,
    )
  }
  for (const id of ['a\0b', '\0', 'first-party\0', 'a\r\nset-cookie: x', '\n', '\u2028', '\x7f']) {
    const what = encodeURIComponent(id)
    const refused = await byBasic(app, { id, secret: 'x' })
    isOAuthError(t, refused, 401, 'invalid_client', `basic ${what}`)
    t.notOk(refused.headers['set-cookie'])
    const inBody = await byPost(app, { id, secret: 'x' })
    if (id.includes('\0')) isOAuthError(t, inBody, 400, 'invalid_request', `post ${what}`)
    else isOAuthError(t, inBody, 401, 'invalid_client', `post ${what}`)
  }
  t.notOk(
    logs.some((line) => JSON.stringify(line).includes('jndi')),
    'ids that nobody has are not logged',
  )
})

overStores('no client can be made under an id that is not one, or looks like the id of a user', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const { sub } = claimsOf((await logIn(app)).access_token) as { sub: string }
  for (const id of ['', ' ', 'a b', 'a\0b', 'a\nb', 'é', 'x'.repeat(129), sub, sub.toUpperCase()]) {
    const error = await makeClient(app, { id }).catch((error: unknown) => error)
    t.match(error, { statusCode: 400, errors: [{ pointer: '/client_id' }] }, JSON.stringify(id))
  }
  t.match(
    await makeClient(app, { id: 'first-party' }).catch((error: unknown) => error),
    { statusCode: 400 },
    'first-party has no secret',
  )
  for (const id of ['__proto__', 'constructor', 'toString']) {
    const client = await makeClient(app, { id })
    t.equal(claimsOf(await tokenOf(app, client))['sub'], id, 'names of JavaScript are only names')
  }
})

onOneStore(
  'a client that is named like a user is another, and neither waits for the failures of the other',
  async (t, build) => {
    const { app } = await build()
    await signUp(app)
    const client = await makeClient(app, { id: 'ada' })
    t.same(await guess(app, 'ada', {}), tenRefusals)
    const { access_token: ofUser } = await logIn(app)
    for (let count = 0; count < 10; count += 1) await postForm(app, '/token', { username: 'ada', password: 'wrong' })
    t.equal((await postForm(app, '/token', { username: 'ada', password })).statusCode, 429)
    const elsewhere = from('198.51.100.1')
    const ofClient = json(await byBasic(app, client, elsewhere)).access_token
    t.not(claimsOf(ofClient)['sub'], claimsOf(ofUser)['sub'])
    t.equal(claimsOf(ofClient)['sub'], 'ada')
    await app.clients.disable(app, 'ada')
    const check = (token: string) => app.inject({ url: '/verify', headers: { authorization: `Bearer ${token}` } })
    t.same(
      [(await check(ofClient)).statusCode, (await check(ofUser)).statusCode],
      [401, 204],
      'the end of one is not that of the other',
    )
  },
)

onOneStore(
  'a store that fails is 503 for a client that is not known from before, and never invalid_client',
  async (t, build) => {
    const { app } = await build()
    const orders = await makeClientWithChosenSecret(app, { id: 'orders' })
    for (const names of [/findClient/, /Failures/, /./]) {
      const heal = failStore(app, names)
      for (const client of [orders, { ...orders, secret: 'wrong' }, { id: 'nobody', secret: 'x' }]) {
        const response = await byBasic(app, client)
        isOAuthError(t, response, 503, 'temporarily_unavailable', `${client.id} while ${names} fails`)
        t.match(response.headers['retry-after'], /^[1-9]/)
      }
      heal()
    }
    t.equal((await clientCredentials(app, orders)).statusCode, 200, 'it heals at once')
  },
)

onOneStore('the header is read as it comes over a socket', async (t, build) => {
  const { app } = await build()
  const orders = await makeClient(app, { id: 'orders' })
  const origin = await listen(app)
  const { authorization } = basic(orders).headers
  const post = (headers: Record<string, string>) =>
    fetch(`${origin}/token`, { method: 'POST', body: new URLSearchParams(grant), headers }).then(({ status }) => status)
  t.equal(await post({ authorization: `${authorization}  ` }), 200, 'white space around a field is not part of it')
  t.equal(await post({ authorization: `Basic ${Buffer.from('orders:wrong').toString('base64')}` }), 401)
  t.equal(await post({ authorization: `Basic ${formEncode('orders')}` }), 401)
})
