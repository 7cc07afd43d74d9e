import { createServer, type RequestListener } from 'node:http'
import { createServer as createTlsServer, type ServerOptions } from 'node:https'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import t, { type Test } from 'tap'
import { createFetchGuard, isPublic } from '../../domain/fetch-guard.ts'
import { createGuardedFetch, type FetchFailed } from '../../plugins/run/guarded-fetch.ts'
import { cert, key } from '../support/certificate.ts'

/* Where the service may send requests of its own (SSRF, DNS rebinding), and what answers may do to it. */

t.test('only addresses of the public internet are public', async (t) => {
  for (const address of ['8.8.8.8', '1.1.1.1', '2606:4700::1111', '2a00:1450::1']) t.ok(isPublic(address), address)
  const others = {
    'this machine': ['127.0.0.1', '127.255.255.254', '0.0.0.0', '0.1.2.3', '::1', '::'],
    'private networks': ['10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', 'fc00::1', 'fd12::1', 'fec0::1'],
    'carrier-grade NAT': ['100.64.0.1', '100.127.255.255'],
    'metadata of clouds': ['169.254.169.254', '100.100.100.200', '192.0.0.192', 'fd00:ec2::254', 'fe80::a9fe:a9fe'],
    'IPv4 inside of IPv6': [
      ...['::ffff:127.0.0.1', '::ffff:a00:1', '::ffff:8.8.8.8', '::127.0.0.1', '64:ff9b::7f00:1', '64:ff9b:1::a00:1'],
      ...['2002:7f00:1::', '2002:a00:1::1', '2001:0:a00:1::1'],
    ],
    'for several, documents, tests, nobody': [
      ...['224.0.0.1', '255.255.255.255', '240.0.0.1', '192.0.2.1', '198.51.100.1', '203.0.113.1', '198.18.0.1'],
      ...['ff02::1', '2001:db8::1', '3fff::1', '100::1', '5f00::1', '4000::1'],
    ],
  }
  for (const [what, addresses] of Object.entries(others))
    for (const address of addresses) t.notOk(isPublic(address), `${what}: ${address}`)
})

t.test('what a URL alone tells is told at the start', async (t) => {
  const judge = (url: string, allowed?: string[]) => createFetchGuard(allowed).problemWith(new URL(url))
  for (const url of ['https://hooks.example.com/a?b', 'https://8.8.8.8', 'https://[2606:4700::1111]:8443/'])
    t.equal(judge(url), undefined, url)
  for (const url of [
    ...[
      'http://hooks.example.com',
      'http://8.8.8.8',
      'ftp://example.com',
      'file:///etc/passwd',
      'https://ada:pw@example.com',
    ],
    ...['https://localhost', 'https://LOCALHOST.', 'https://a.localhost', 'https://127.0.0.1', 'https://127.1'],
    ...[
      'https://0x7f000001',
      'https://2130706433',
      'https://017700000001',
      'https://[::1]',
      'https://[::ffff:127.0.0.1]',
    ],
    ...[
      'https://169.254.169.254/latest/',
      'https://[fd00:ec2::254]',
      'https://0',
      'https://10.0.0.1',
      'https://１２７.0.0.1',
    ],
  ])
    t.type(judge(url), 'string', url)
  t.notMatch(judge('https://ada:hunter2@127.0.0.1/T0KEN'), /hunter2|T0KEN/)

  const allowed = ['hooks.internal', '10.0.0.0/8', '::ffff:192.168.0.0/112', 'fd00::/8', '127.0.0.1']
  for (const url of [
    ...[
      'http://hooks.internal:8080',
      'http://HOOKS.internal./',
      'https://10.1.2.3',
      'http://10.1.2.3',
      'http://[fd12::1]',
    ],
    ...['http://[::ffff:10.1.2.3]', 'http://192.168.1.1', 'http://localhost:3000', 'http://another.internal'],
  ])
    t.equal(judge(url, allowed), undefined, url)
  for (const url of ['https://172.16.0.1', 'http://192.169.1.1', 'https://[fc00::1]', 'http://8.8.8.8'])
    t.type(judge(url, allowed), 'string', url)
  t.type(judge('http://localhost', ['10.0.0.0/8']), 'string', 'no range has it')
})

async function serve(t: Test, listener: RequestListener, tls?: ServerOptions): Promise<number> {
  const server = (tls ? createTlsServer(tls, listener) : createServer(listener)).listen(0, '127.0.0.1')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  await new Promise((resolve) => server.once('listening', resolve))
  return (server.address() as AddressInfo).port
}

/** A fetch whose names turn into these addresses, one look-up after the other. */
function fetchBy(t: Test, allowed: string[], ...answers: string[][]) {
  const asked: string[] = []
  const resolve = async (name: string) => {
    asked.push(name)
    const addresses = answers[Math.min(asked.length, answers.length) - 1] ?? []
    return addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
  }
  const { fetch, close } = createGuardedFetch(allowed, resolve as never)
  t.teardown(close)
  return { fetch, asked }
}
const get = { method: 'GET', withinMs: 2_000 } as const
const refused = (fetch: ReturnType<typeof fetchBy>['fetch'], url: string) =>
  fetch(new URL(url), get).then(
    () => undefined,
    (error) => error as FetchFailed,
  )

t.test('a name that turns into a private address is not called, whatever it was a moment ago', async (t) => {
  let calls = 0
  const port = await serve(t, (_, response) => {
    calls += 1
    response.end()
  })
  for (const address of ['127.0.0.1', '::ffff:127.0.0.1', '::1', '169.254.169.254', '64:ff9b::7f00:1']) {
    const { fetch } = fetchBy(t, [], [address])
    t.match(
      await refused(fetch, `https://hooks.example.com:${port}`),
      { isRefused: true, message: /turns into/ },
      address,
    )
  }
  // The other port is that of the attacker: the address is looked up once for each connection, and that one is called.
  const { fetch, asked } = fetchBy(t, ['10.0.0.0/8'], ['8.8.8.8'], ['127.0.0.1'])
  t.match(await refused(fetch, `http://rebind.example.com:${port}`), { isRefused: true }, 'public, and http')
  t.match(await refused(fetch, `http://rebind.example.com:${port}`), { isRefused: true }, 'private, and not named')
  t.equal(asked.length, 2, 'once for each connection')
  t.equal(calls, 0)
})

t.test('of several addresses of a name, those are called that may be', async (t) => {
  const port = await serve(t, (_, response) => response.end('here'))
  const { fetch } = fetchBy(t, ['127.0.0.0/8'], ['10.255.255.1', '::1', '127.0.0.1'])
  const { status, body } = await fetch(new URL(`http://hooks.internal:${port}`), get)
  t.same([status, String(body)], [200, 'here'])
})

t.test('a redirect is an answer like others, and is not followed', async (t) => {
  let calls = 0
  const port = await serve(t, ({ url }, response) => {
    calls += 1
    if (url === '/') response.writeHead(307, { location: '/elsewhere' })
    response.end()
  })
  const { fetch } = fetchBy(t, ['127.0.0.1'])
  t.equal((await fetch(new URL(`http://127.0.0.1:${port}`), get)).status, 307)
  t.equal(calls, 1)
})

t.test('an answer is bounded in size and in time', async (t) => {
  const flood = Buffer.alloc(1 << 20)
  let sent = 0
  const port = await serve(t, ({ url }, response) => {
    if (url === '/huge') {
      const pour = () => {
        while (response.write(flood) && !response.destroyed) sent += flood.length
        sent += flood.length
        response.once('drain', pour)
      }
      pour()
    } else if (url === '/headers') response.writeHead(200, { big: 'x'.repeat(100_000) }).end()
    else if (url === '/drops') {
      response.writeHead(200)
      const timer = setInterval(() => response.write('.'), 20)
      response.once('close', () => clearInterval(timer))
    }
  })
  const { fetch } = fetchBy(t, ['127.0.0.1'])
  const ask = (path: string, withinMs = 5_000) =>
    fetch(new URL(`http://127.0.0.1:${port}${path}`), { ...get, withinMs })
  const { body, isWhole } = await ask('/huge')
  t.notOk(isWhole)
  t.ok(body.length <= 65_536 && sent < 64 * flood.length, 'most of it is neither kept nor waited for')
  await t.rejects(ask('/headers'), { message: /Header overflow/ })
  for (const path of ['/silence', '/drops']) {
    const startedAt = performance.now()
    await t.rejects(ask(path, 300), { message: 'no answer within 0.3 s' }, path)
    t.ok(performance.now() - startedAt < 2_000)
  }
})

t.test('a connection that was closed while it was idle fails nothing', async (t) => {
  let connections = 0
  const server = createTcpServer((socket) => {
    connections += 1
    let requests = 0
    socket.on('data', () => {
      // The second request on a connection meets a server that has just closed it.
      if (++requests === 1) socket.write('HTTP/1.1 204 No Content\r\n\r\n')
      else socket.resetAndDestroy()
    })
    socket.on('error', () => {})
  }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await new Promise((resolve) => server.once('listening', resolve))
  const { fetch } = fetchBy(t, ['127.0.0.1'])
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  for (let i = 0; i < 3; i++) t.equal((await fetch(url, get)).status, 204)
  t.equal(connections, 3)
})

t.test('what does not answer is told in words', async (t) => {
  const port = await serve(t, (request) => request.socket.destroy())
  const { fetch } = fetchBy(t, ['127.0.0.1'])
  t.match(await refused(fetch, `http://127.0.0.1:${port}`), { isRefused: false, message: /socket hang up|ECONNRESET/ })
  t.match(await refused(fetch, 'http://127.0.0.1:1'), { message: /ECONNREFUSED/ })
  const { fetch: byNames } = createGuardedFetch(['localhost'], (async () => {
    throw Object.assign(new Error('getaddrinfo ENOTFOUND hooks.example.com'), { code: 'ENOTFOUND' })
  }) as never)
  t.match(await refused(byNames, 'https://hooks.example.com'), { message: 'getaddrinfo ENOTFOUND hooks.example.com' })
})

t.test(
  'https needs a certificate by an authority that is known, and the setting that names others is told',
  async (t) => {
    let calls = 0
    const count = () => {
      calls += 1
    }
    const port = await serve(t, count, { key, cert })
    const { fetch } = fetchBy(t, ['127.0.0.1'])
    const ofUnknown = { isRefused: false, message: /no authority that is known here; NODE_EXTRA_CA_CERTS.*_CERT\)$/ }
    t.match(await refused(fetch, `https://127.0.0.1:${port}`), ofUnknown)
    t.equal(calls, 0, 'nothing is sent')
    const plain = await serve(t, () => {})
    t.match(await refused(fetch, `https://127.0.0.1:${plain}`), {
      message: 'it does not answer by TLS, as https needs (EPROTO)',
    })
    const others = await serve(t, count, { key, cert, maxVersion: 'TLSv1.2', ciphers: 'ECDHE-RSA-AES128-GCM-SHA256' })
    t.match(await refused(fetch, `https://127.0.0.1:${others}`), {
      message: /^TLS with it failed: [a-z0-9/]+ alert handshake failure \(EPROTO\)$/,
    })
  },
)
