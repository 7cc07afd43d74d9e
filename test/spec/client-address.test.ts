import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FastifyInstance, InjectOptions } from 'fastify'
import t from 'tap'
import { networkOf } from '../../domain/network.ts'
import { createAddressReader } from '../../plugins/http/client-address.ts'
import { json, logIn, onOneStore, password, postForm, signUp, withToken } from '../support/helper.ts'
import { root } from '../support/program.ts'

const proxy = '10.1.2.3'
const read = createAddressReader(['10.0.0.0/8', 'fd00::/8', '::ffff:192.0.2.0/120'])

t.test('the address in X-Forwarded-For is read in every form in which proxies write one (contract §5)', async (t) => {
  const forms: [member: string, address: string][] = [
    ['203.0.113.7', '203.0.113.7'],
    ['203.0.113.7:30000', '203.0.113.7'],
    ['203.0.113.7:0', '203.0.113.7'],
    ['  203.0.113.7\t', '203.0.113.7'],
    ['"203.0.113.7"', '203.0.113.7'],
    ['"203.0.113.7:443"', '203.0.113.7'],
    ['2001:db8::1', '2001:db8::1'],
    ['2001:DB8:0:0::1', '2001:db8::1'],
    ['[2001:db8::1]', '2001:db8::1'],
    ['[2001:db8::1]:443', '2001:db8::1'],
    ['"[2001:db8::1]:443"', '2001:db8::1'],
    ['2001:db8::1:443', '2001:db8::1:443'],
    ['::ffff:203.0.113.7', '203.0.113.7'],
    ['::FFFF:cb00:7107', '203.0.113.7'],
    ['[::ffff:203.0.113.7]:443', '203.0.113.7'],
    ['0:0:0:0:0:ffff:203.0.113.7', '203.0.113.7'],
    ['fe80::1%eth0', 'fe80::1'],
    ['[fe80::1%25eth0]:443', 'fe80::1'],
    ['64:ff9b::203.0.113.7', '64:ff9b::cb00:7107'],
    ['::1.2.3.4', '::1.2.3.4'],
  ]
  for (const [member, address] of forms) {
    t.equal(read(proxy, member), address, member)
    t.equal(read(proxy, `192.0.2.66, ${member} , 10.9.9.9:81,fd00::7`), address, `${member}, through more proxies`)
    t.equal(read(proxy, `,, ${member},, ,`), address, `${member} among empty members, RFC 9110 §5.6.1`)
  }
})

t.test("what is no address in X-Forwarded-For counts as the peer's (contract §5)", async (t) => {
  const none = [
    'unknown',
    '_hidden',
    'garbage',
    'localhost',
    '1.2.3',
    '1',
    '0x7f.1',
    '010.0.0.1',
    '1.2.3.4.5',
    '256.1.1.1',
    '１.2.3.4',
  ]
  none.push(
    '1.2.3.4:99999',
    '1.2.3.4:',
    '1.2.3.4:x',
    '1.2.3.4:123456',
    '1.2.3.4 5',
    '1.2.3.4%eth0',
    '[1.2.3.4]',
    '1.2.3.4/24',
    '-',
  )
  none.push(
    '[2001:db8::1',
    '2001:db8::1]',
    '[2001:db8::1]x',
    '[2001:db8::1]:99999',
    '2001:db8::g',
    '1::2::3',
    '[]',
    '[]:80',
    '""',
    '"',
  )
  none.push(
    'for=1.2.3.4',
    '"1.2.3.4',
    'x'.repeat(1000),
    '1'.repeat(1000),
    `${' '.repeat(500)}x`,
    `fe80::1%${'e'.repeat(200)}`,
    '\0',
    '%00',
  )
  for (const member of none) {
    const what = JSON.stringify(member.slice(0, 20))
    t.equal(read(proxy, member), proxy, what)
    t.equal(read(proxy, `203.0.113.7, ${member}, 10.0.0.1`), proxy, `${what} left of another proxy`)
    t.equal(read('203.0.113.9', member), '203.0.113.9', `${what} from a stranger`)
    if (!member.includes('"'))
      t.equal(read(proxy, `${member}, 203.0.113.7`), '203.0.113.7', `${what} as a client claims it`)
  }
})

t.test('only a trusted peer is believed, and the rightmost untrusted address is the one (contract §5)', async (t) => {
  t.equal(read('203.0.113.9', '198.51.100.1'), '203.0.113.9', 'a stranger is not')
  for (const peer of ['10.255.0.1', '::ffff:10.1.2.3', 'fd12::1%eth0', '192.0.2.200'])
    t.equal(read(peer, '203.0.113.7'), '203.0.113.7', peer)
  t.equal(read('192.0.3.1', '203.0.113.7'), '192.0.3.1', 'beside the range')
  t.equal(read(proxy, '198.51.100.1, 203.0.113.7, 10.0.0.1'), '203.0.113.7')
  t.equal(read(proxy, '10.0.0.2, 10.0.0.1'), '10.0.0.2', 'the outermost where all are trusted')
  t.equal(read(proxy, ''), proxy)
  t.equal(read(proxy, ' , ,'), proxy)
  t.equal(read(proxy), proxy)
  t.equal(createAddressReader()('127.0.0.1', '203.0.113.7'), '127.0.0.1', 'nobody is, without the setting')
  const everybody = createAddressReader(['0.0.0.0/0', '::/0'])
  t.equal(everybody('203.0.113.9', '198.51.100.1, 2001:db8::1'), '198.51.100.1', 'all may be trusted')
  t.equal(read(undefined, '203.0.113.7'), '', 'a socket that has gone has no address')
})

t.test("the peer's address is in canonical form, one text for one host", async (t) => {
  t.equal(read('::ffff:203.0.113.9'), '203.0.113.9', 'IPv4 at a socket for both')
  t.equal(read('2001:DB8::0:1'), '2001:db8::1')
  t.equal(read('fe80::1%eth0'), 'fe80::1')
})

t.test('no more members are looked at than a chain of proxies has', async (t) => {
  t.equal(read(proxy, `203.0.113.7${', 10.0.0.1'.repeat(20)}`), '203.0.113.7')
  t.equal(read(proxy, `203.0.113.7${', 10.0.0.1'.repeat(1000)}`), '10.0.0.1')
  t.equal(read(proxy, `203.0.113.7${','.repeat(15_000)}`), proxy)
})

t.test('a network is the /24 of IPv4, or the address alone, and the /64 of IPv6', async (t) => {
  for (const bits of [24, 32] as const) {
    t.equal(networkOf('203.0.113.7', bits) === networkOf('203.0.113.200', bits), bits === 24)
    t.equal(networkOf('2001:db8:0:1::1', bits), networkOf('2001:db8:0:1:ffff::2', bits))
    t.not(networkOf('2001:db8:0:1::1', bits), networkOf('2001:db8:0:2::1', bits))
    t.not(networkOf('203.0.113.7', bits), networkOf('203.0.114.7', bits))
  }
})

const through = (forwarded: string | string[], peer = proxy): InjectOptions => ({
  remoteAddress: peer,
  headers: { 'x-forwarded-for': forwarded } as Record<string, string>,
})
const guess = (app: FastifyInstance, options: InjectOptions, secret = 'wrong wrong wrong', username = 'ada') =>
  postForm(app, '/token', { username, password: secret }, options)

onOneStore(
  'ports and junk in X-Forwarded-For are no way round a wait, and lock nobody out elsewhere (contract §5)',
  async (t, build) => {
    const { app } = await build({ AUTH_TRUSTED_PROXIES: '10.0.0.0/8' })
    const waitsAfter: [how: string, forwarded: (i: number) => string][] = [
      ['a port each', (i) => `203.0.113.7:${30_000 + i}`],
      ['bracketed ports', (i) => `[2001:db8:7::1]:${30_000 + i}`],
      ['hosts of a /64', (i) => `2001:db8:8::${i}`],
      ['junk each', (i) => `junk-${i}`],
      ['spelling', (i) => `${' '.repeat(i)}::ffff:198.51.100.${i}${i % 2 ? ',' : ''}`],
    ]
    for (const [n, [how, forwarded]] of waitsAfter.entries()) {
      // An account each: the prefixes of one account share a bounded number of rows.
      const name = `ada${n}`
      await signUp(app, name)
      const statuses = []
      for (let i = 0; i < 14; i++) statuses.push((await guess(app, through(forwarded(i)), undefined, name)).statusCode)
      t.same(statuses, [...Array(10).fill(400), ...Array(4).fill(429)], how)
      t.equal(
        (await guess(app, through('198.51.200.20'), password, name)).statusCode,
        200,
        'the owner elsewhere gets in',
      )
    }
  },
)

onOneStore('sessions and log lines have the address in canonical form, of several fields too', async (t, build) => {
  const { app, logs } = await build({ AUTH_TRUSTED_PROXIES: '10.0.0.0/8', LOG_LEVEL: 'debug' })
  await signUp(app)
  const options = through(['192.0.2.1, "[2001:DB8::7]:4711"', '10.0.0.1'])
  const { access_token, refresh_token } = json(await guess(app, options, password))
  const { sessions } = json(await withToken(app, access_token, { url: '/users/me/sessions' }))
  t.match(sessions, [{ address: '2001:db8::7' }])
  await guess(app, options)
  await postForm(app, '/token', { grant_type: 'client_credentials', client_id: 'nobody', client_secret: 'x' }, options)
  await postForm(app, '/token', { grant_type: 'refresh_token', refresh_token }, through('203.0.113.7:81'))
  for (const event of ['login.succeeded', 'login.failed', 'client.refused']) {
    t.match(
      logs.find((line) => line['event'] === event),
      { address: '2001:db8::7' },
      event,
    )
  }
  const afterwards = json(await withToken(app, access_token, { url: '/users/me/sessions' }))
  t.match(afterwards.sessions, [{ address: '203.0.113.7' }], 'of the last refresh')
})

onOneStore('a socket for IPv4 and IPv6 has one address for one host', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const origin = await app.listen({ host: '::', port: 0 })
  const form = new URLSearchParams({ username: 'ada', password })
  const answer = await fetch(`http://127.0.0.1:${new URL(origin).port}/token`, { method: 'POST', body: form })
  const { access_token } = (await answer.json()) as { access_token: string }
  t.match(json(await withToken(app, access_token, { url: '/users/me/sessions' })).sessions, [{ address: '127.0.0.1' }])
})

onOneStore('X-Forwarded-Host and X-Forwarded-Proto are never believed', async (t, build) => {
  const { app } = await build({ AUTH_TRUSTED_PROXIES: '127.0.0.1' })
  const headers = { 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'https', 'x-forwarded-for': '203.0.113.7' }
  for (const url of ['/.well-known/oauth-authorization-server', '/openapi.json', '/docs', '/nope']) {
    const answer = await app.inject({ url, headers })
    t.notMatch(answer.body + JSON.stringify(answer.headers), 'evil.example', url)
  }
  await signUp(app)
  t.ok(await logIn(app))
})

/** Who is asked by the doctor says who connects to it, and PostgreSQL is no client. */
const mayAsk = ['plugins/http/client-address.ts', 'routes/health.ts', 'stores/postgres/server-facts.ts']

t.test('the address of a request is asked of `request.address` alone', async (t) => {
  const folders = ['process', 'log', 'domain', 'plugins', 'routes', 'stores']
  const namesIn = (folder: string) =>
    readdirSync(join(root, folder), { recursive: folder !== '.' }).map((name) => join(root, folder, String(name)))
  const files = ['.', ...folders].flatMap(namesIn)
  const asks = files
    .filter((path) => path.endsWith('.ts'))
    .filter((path) => /\.ips?\b|[{,]\s*ips?\s*[},:]|trustProxy|remoteAddress/.test(readFileSync(path, 'utf8')))
    .filter((path) => !mayAsk.some((allowed) => path.endsWith(allowed)))
  t.same(asks, [])
})
