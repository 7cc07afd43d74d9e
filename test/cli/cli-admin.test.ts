import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { run, runJson, start } from '../support/cli.ts'
import { cheapHashing, newDir, password } from '../support/helper.ts'

/* The command as users run it, beside a service as it runs. */

const eventsOf = (stderr: string) =>
  stderr.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []))

/** `latchkey serve`, and how to call it. */
async function serve(t: Test, env: Record<string, string>) {
  const child = await start(['serve'], { ...env, PORT: '0', AUTH_SHUTDOWN_GRACE: '1s' })
  t.teardown(async () => {
    child.kill('SIGTERM')
    await once(child, 'close')
  })
  let origin: string | undefined
  for await (const text of child.stdout?.setEncoding('utf8').iterator({ destroyOnReturn: false }) ?? []) {
    origin = /Latchkey listens on (http:[^",\s]+)/.exec(text)?.[1]
    if (origin) break
  }
  child.stdout?.resume()
  child.stderr?.resume()

  async function call(path: string, token?: string) {
    const response = await fetch(origin + path, { headers: token ? { authorization: `Bearer ${token}` } : {} })
    return { status: response.status, body: JSON.parse(await response.text()) }
  }
  async function askForTokens(form: Record<string, string>) {
    const response = await fetch(`${origin}/token`, { method: 'POST', body: new URLSearchParams(form) })
    return {
      status: response.status,
      body: JSON.parse(await response.text()),
      id: response.headers.get('x-request-id'),
    }
  }
  async function signUp(body: object) {
    const headers = { 'content-type': 'application/json' }
    return (await fetch(`${origin}/signup`, { method: 'POST', headers, body: JSON.stringify(body) })).status
  }
  return {
    call,
    askForTokens,
    signUp,
    logIn: (username: string, secret: string) => askForTokens({ username, password: secret }),
    refresh: (refresh_token: string) => askForTokens({ grant_type: 'refresh_token', refresh_token }),
    isRefusedSoon: (token: string) => withinASecond(async () => (await call('/users/me', token)).status === 401),
  }
}

/** Asks until it is so. */
async function withinASecond(isSo: () => Promise<boolean>): Promise<boolean> {
  for (const startedAt = performance.now(); performance.now() - startedAt < 1000; await sleep(20))
    if (await isSo()) return true
  return false
}

async function newStore(t: Test) {
  const env = { ...cheapHashing, AUTH_DATA_DIR: join(await newDir(t), 'data') }
  const latchkey = (args: string, input?: string) => runJson(args.split(' '), env, input)
  return { env, latchkey, say: (args: string, input?: string) => run(args.split(' '), env, input) }
}

t.test('beside a running service', async (running) => {
  const { env, latchkey, say } = await newStore(running)
  let server: Awaited<ReturnType<typeof serve>>

  await running.test('the first administrator is made before the first start', async (t) => {
    t.match(await say('user list'), { code: 69, stdout: '', stderr: /^There is no embedded store in .*\n$/ })
    t.notOk(existsSync(env.AUTH_DATA_DIR), 'to look makes nothing')
    const ada = await latchkey('user add ada --role admin --password-stdin', `${password}\r\n`)
    t.match(ada, { code: 0, username: 'ada', roles: ['admin'], stderr: /A new store was made/ })
    t.equal(ada.stderr, `A new store was made in ${env.AUTH_DATA_DIR}.\n`, 'no line of a log')
    t.same(readdirSync(env.AUTH_DATA_DIR), ['lmdb'], 'the secret and the keys are made by the service')

    server = await serve(running, { ...env, AUTH_SIGNUP: 'closed' })
    const { body: admin } = await server.askForTokens({ username: 'ada', password, scope: 'admin' })
    t.match(
      (await server.call('/admin/users', admin.access_token)).body,
      { users: [{ username: 'ada' }] },
      'with the scope',
    )
  })

  await running.test('everything else of users is done beside it', async (t) => {
    const bob = await latchkey('user add bob --generate')
    t.match(bob, { code: 0, password: /^([a-z2-9]{5}-){4}[a-z2-9]{5}$/ })
    t.equal(bob.stderr, '')
    const eve = await runJson(['user', 'add', 'eve', '--generate'], { ...env, LOG_LEVEL: 'info' })
    t.match(
      eventsOf(eve.stderr),
      [{ event: 'user.created', sub: eve['id'], by: 'latchkey cli' }],
      'where LOG_LEVEL asks for it',
    )
    t.notMatch(eve.stderr, new RegExp(eve['password']), 'the password is on stdout only')
    t.match(await latchkey('user delete eve --yes'), { code: 0 })
    const [first, second] = [await server.logIn('bob', bob['password']), await server.logIn('bob', bob['password'])]
    t.match(await latchkey('user show BOB'), { code: 0, id: bob['id'], sessions: 2 })
    await server.logIn('bob', 'wrong horse battery staple')
    const failed = await latchkey('user show bob')
    t.match(failed, { failed_logins: { count: 1, last_at: String } }, 'why somebody has to wait')
    const { sessions } = await latchkey('user sessions bob')
    t.match(sessions, [{ id: String, client_id: 'first-party', address: '127.0.0.1' }, {}])
    t.match(await say(`session end ${sessions[0].id}`), { code: 0, stdout: 'The session has ended.\n' })
    t.ok(await server.isRefusedSoon(second.body.access_token), 'the service refuses within a second')
    t.equal((await server.call('/users/me', first.body.access_token)).status, 200)
    t.match(await say(`user disable ${bob['id']}`), {
      code: 0,
      stdout: 'bob is disabled, and logged out everywhere.\n',
    })
    t.ok(await server.isRefusedSoon(first.body.access_token))
    t.equal((await server.refresh(first.body.refresh_token)).status, 400)
    t.equal((await server.logIn('bob', bob['password'])).status, 400)
    t.match(await latchkey('user delete bob --yes'), { code: 0, deleted: true })
    t.match(await say('user list'), {
      code: 0,
      stdout: /^name +id +roles +created +disabled\nada +[-0-9a-f]{36} +admin +\d.*Z\n$/,
    })
  })

  await running.test('somebody is invited, and gets another name and address', async (t) => {
    const { code, id, link, token } = await latchkey('user invite --email eve@example.com --role editor')
    t.match([code, link], [0, `/sign-up?invitation=${token}`])
    t.equal(await server.signUp({ username: 'eve', password }), 403, 'sign-up is closed')
    t.equal(await server.signUp({ username: 'eve', password, invitation: token }), 201)
    t.match(await say(`user withdraw-invitation ${id}`), { code: 1, stderr: 'There is no such invitation\n' })
    const other = await latchkey('user invite --username mallory')
    t.match(await latchkey(`user withdraw-invitation ${other.id}`), { code: 0, withdrawn: true })
    t.equal(await server.signUp({ password, invitation: other.token }), 400)
    const invited = await say('user invite')
    t.match(invited.stdout, /^link +http:\S+\nid +\S{43}\nexpires +\S+ \S+Z\nmailed +no: hand the link over\n$/)

    t.match((await say('user show eve')).stdout, /^roles +editor\naddress +eve@example.com, verified\nlanguage +en$/m)
    t.match(await say('user rename eve Grace'), { code: 0, stdout: 'eve is called Grace now.\n' })
    t.match(await latchkey('user set-email grace g@example.com'), {
      code: 0,
      email: 'g@example.com',
      email_verified: false,
    })
    t.match(await say('user set-email grace g@example.com --verified'), {
      code: 0,
      stdout: 'The address of Grace: g@example.com, verified.\n',
    })
    t.equal((await server.logIn('g@example.com', password)).status, 200, 'who signs in by it')
    t.match(await say('user set-email ada G@example.com --verified'), {
      code: 1,
      stderr: 'The address is that of another user\n',
    })
    t.match(await say('user remove-email grace'), { code: 0, stdout: 'Grace has no address any more.\n' })
    t.match(await latchkey('user delete grace --yes'), { code: 0 })
  })

  await running.test('second factors are listed, and reset for somebody who has lost them', async (t) => {
    const row = { username: 'flo', password, totp_secret: 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ' }
    await latchkey('user import - --from latchkey', JSON.stringify(row))
    const { status, body } = await server.logIn('flo', password)
    t.match([status, body], [403, { error: 'insufficient_authorization', challenges: ['totp'] }])
    t.match((await say('user show flo')).stdout, /^second factor +an authenticator app$/m)
    t.match(await say('user factors list FLO'), {
      code: 0,
      stdout: /^kind +name +id +created +last used\ntotp +Authenticator app +[-0-9a-f]{36} +\S+ \S+Z\n$/,
    })
    t.match(await say('user factors reset flo'), { code: 64, stdout: '', stderr: /--yes/ })
    t.equal((await server.logIn('flo', password)).status, 403, 'nothing was done')
    const reset = await runJson(['user', 'factors', 'reset', 'flo', '--yes'], { ...env, LOG_LEVEL: 'info' })
    t.match(reset, { code: 0, username: 'flo', removed: 1 })
    t.match(eventsOf(reset.stderr), [{ event: 'factors.reset', sub: reset['id'], by: 'latchkey cli' }])
    t.equal((await server.logIn('flo', password)).status, 200, 'by the password alone')
    t.match(await say('user factors reset flo --yes'), { code: 0, stdout: 'flo had none: nothing was done.\n' })
    t.match(await latchkey('user factors list flo'), { code: 0, factors: [] })
    t.match(await say('user factors list nobody'), { code: 1, stderr: 'There is no user nobody\n' })
    t.match(await say('user factors'), { code: 64 })
    t.match(await latchkey('user delete flo --yes'), { code: 0 })
  })

  await running.test('why a request was refused', async (t) => {
    const { id } = await server.logIn('ada', 'wrong horse battery staple')
    t.ok(await withinASecond(async () => (await say(`explain ${id}`)).code === 0))
    const { stdout } = await say(`explain ${id}`)
    t.match(
      stdout,
      /^request {2}[-0-9a-f]{36}\nat {7}.*Z\nroute {4}POST \/token\nanswer {3}400 invalid_grant\n\npassword +wrong password\n/,
    )
    t.match(stdout, /\nfailures_from_network +1, limit 10, AUTH_THROTTLE\n/)
    t.match(await latchkey(`explain ${id}`), { request_id: id, code: 'invalid_grant', checks: [{ name: 'password' }] })

    const { body: admin } = await server.askForTokens({ username: 'ada', password, scope: 'admin' })
    const mere = (await server.call('/users/me')).body.request_id
    t.match((await server.call(`/admin/explain/${mere}`, admin.access_token)).body, { code: 'missing_token' })
    for (const unknown of [mere, 'nothing'])
      t.match(await say(`explain ${unknown}`), { code: 1, stdout: '', stderr: /^Nothing is kept .*\n$/ })
    t.match(await say('explain'), { code: 64 })
  })

  await running.test('what happened, to whom, and as it happens', async (t) => {
    const eventsFor = async (args: string) =>
      (await say(`audit ${args} --json`)).stdout.split('\n').flatMap((line) => (line ? [JSON.parse(line)] : []))
    const failures = () => eventsFor('--user ADA --event login.failed')
    t.ok(await withinASecond(async () => (await failures()).length > 0))
    const [failed] = await failures()
    t.match(failed, { outcome: 'failure', address: '127.0.0.1', detail: { reason: 'wrong password' } })
    t.match((await eventsFor(`--user ${failed.user} --since 1h`)).at(-1), { event: 'user.created', by: 'latchkey cli' })
    t.match(await say('audit --user ada --event login.failed --limit 1'), {
      code: 0,
      stdout: /^\S+ \S+Z {2}login\.failed {2}user=ada .*reason="wrong password"\n$/,
    })
    t.match(await say('audit --since 2100-01-01'), { code: 0, stdout: 'There are no such events.\n' })
    t.match(await say('audit --user nobody-here'), {
      code: 1,
      stdout: '',
      stderr: /^There is no user nobody-here;.*\n$/,
    })
    t.match(await say('audit --event no.such'), { code: 64, stdout: '' })
    t.match(await say('audit --since yesterday'), { code: 64, stdout: '' })

    const before = (await eventsFor('--event login.failed')).length
    const following = await start(['audit', '--follow', '--json', '--event', 'login.failed', '--since', '1h'], env)
    let told = ''
    following.stdout?.setEncoding('utf8').on('data', (text) => {
      told += text
    })
    const countTold = () => told.split('\n').length - 1
    while (countTold() < before) await sleep(20)
    await server.logIn('ada', 'wrong horse battery staple')
    while (countTold() === before) await sleep(20)
    following.kill('SIGTERM')
    t.same(await once(following, 'close'), [0, null])
    const ids = told
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).id)
    t.same(ids.sort(), (await eventsFor('--event login.failed')).map(({ id }) => id).sort(), 'each once')
  })

  await running.test('many users at once, as arguments or lines on stdin, and lists of some', async (t) => {
    for (const name of ['m-one', 'm-two']) await latchkey(`user add ${name} --generate`)
    t.match(await say('user disable m-one M-TWO nobody'), {
      code: 1,
      stdout:
        'm-one is disabled, and logged out everywhere.\nm-two is disabled, and logged out everywhere.\n' +
        'There is no user nobody.\n',
      stderr: 'Refused: 1 of 3\n',
    })
    t.match(await say('user end-sessions -', 'm-one\r\n\nm-two\nm-one'), {
      code: 0,
      stdout: 'm-one is logged out everywhere.\nm-two is logged out everywhere.\n',
    })
    const { results } = await latchkey('user end-sessions - ', 'nobody\nada')
    t.match(results, [
      { name: 'nobody', ok: false, error: 'There is no user nobody' },
      { name: 'ada', ok: true },
    ])
    t.match(await say('user disable nobody'), { code: 1, stdout: '', stderr: 'There is no user nobody\n' })
    t.match(await say('user disable -', '\n'), { code: 64, stderr: 'There is no name on stdin\n' })

    const namesOf = async (options: string) =>
      (await latchkey(`user list ${options}`)).users.map(({ username }: { username: string }) => username)
    t.same(await namesOf('--prefix M-'), ['m-one', 'm-two'])
    t.same(await namesOf('--created-after 1h'), ['ada', 'm-one', 'm-two'], 'the oldest first')
    t.same(await namesOf('--prefix m-t --created-after 2026-01-01'), ['m-two'])
    t.match(await say('user list --created-after yesterday'), { code: 1, stdout: '', stderr: /created_after/ })
    for (const name of ['m-one', 'm-two']) await latchkey(`user delete ${name} --yes`)
  })

  await running.test('clients and keys, beside a running service', async (t) => {
    const { client_secret, ...made } = await latchkey(
      'client add a/b%2F --scope files:read --scope admin --audience https://a.example --introspect --first-party --grant client_credentials',
    )
    t.match(made, {
      code: 0,
      scopes: ['files:read', 'admin'],
      audience: ['https://a.example'],
      introspect: true,
      first_party: true,
      grants: ['client_credentials'],
    })
    const token = (secret: string) =>
      server.askForTokens({ grant_type: 'client_credentials', client_id: 'a/b%2F', client_secret: secret })
    t.equal((await token(client_secret)).status, 200)
    const changed = await latchkey(
      'client change a/b%2F --scope files:read --redirect-uri https://a.example/cb --name Files',
    )
    t.match(changed, {
      scopes: ['files:read'],
      redirect_uris: ['https://a.example/cb'],
      name: 'Files',
      introspect: true,
    })
    t.equal((await token(client_secret)).status, 200)
    const { client_secret: second } = await latchkey('client rotate-secret a/b%2F --overlap 2h')
    t.same([(await token(client_secret)).status, (await token(second)).status], [200, 200])
    const { client_secret: third } = await latchkey('client rotate-secret a/b%2F --leaked')
    t.ok(
      await withinASecond(async () => (await token(second)).status === 401),
      'the secret before is refused within a second',
    )
    t.equal((await token(third)).status, 200)
    t.match(await latchkey('client delete a/b%2F --yes'), { code: 0, deleted: true })

    const { access_token, refresh_token } = (await server.logIn('ada', password)).body
    t.match(await latchkey('keys rotate'), { code: 0, state: 'next' })
    t.match(await latchkey('keys list'), { code: 0, keys: [{ state: 'next' }, { state: 'current' }] })
    t.equal((await server.call('/users/me', access_token)).status, 200)
    t.match(await latchkey('keys rotate --leaked'), { code: 0, state: 'current' })
    t.ok(await server.isRefusedSoon(access_token))
    const { body } = await server.refresh(refresh_token)
    t.equal((await server.call('/users/me', body.access_token)).status, 200, 'and sessions go on')

    const [{ kid }] = (await latchkey('keys list')).keys
    const revoked = await latchkey(`keys revoke ${kid}`)
    t.match(revoked, { code: 0, kid, revoked: true, signing: /^[\w-]{43}$/, stderr: '' })
    t.not(revoked.signing, kid)
    t.ok(await server.isRefusedSoon(body.access_token))
    const next = (await server.refresh(body.refresh_token)).body
    t.equal((await server.call('/users/me', next.access_token)).status, 200, 'nobody has to log in again')
    t.match(await latchkey(`keys withdraw ${kid}`), { code: 0, signing: revoked.signing }, 'again, it is done already')
    t.match(await say('keys revoke nothing'), { code: 1, stdout: '', stderr: 'There is no such key\n' })
  })
})

t.test('what is wrong is one line on stderr and an exit code', async (t) => {
  const { env, latchkey } = await newStore(t)
  const ada = await latchkey('user add ada --password-stdin', password)
  await latchkey('keys rotate')
  const namesake = await latchkey(`user add ${ada['id']} --password-stdin`, password)
  const clients = join(await newDir(t), 'clients.json')
  await writeFile(clients, 'no JSON')
  const pg = { DATABASE_URL: 'postgres://u:geheim@127.0.0.1:1/db', AUTH_SECRET: randomUUID() }
  const cases: [string, string[], number, RegExp, Record<string, string>?, string?][] = [
    ['a name that is taken', ['user', 'add', 'Ada', '--password-stdin'], 1, /^The username is taken$/m, {}, password],
    ['a bad role', ['user', 'set-roles', 'ada', 'a,b'], 1, /\/roles\/0/],
    ['nobody to confirm', ['user', 'delete', 'ada'], 64, /--yes/],
    ['nobody to ask', ['user', 'add', 'bob'], 64, /--password-stdin or --generate/],
    ['an address that is none', ['user', 'invite', '--email', 'ada'], 1, /^The email must be one address/m],
    ['an id that begins with a dash', ['user', 'withdraw-invitation', `-${'x'.repeat(42)}`], 1, /no such invitation/],
    ['the same behind --', ['keys', 'revoke', '--', `-${'x'.repeat(42)}`], 1, /no such key/],
    ['no such user', ['user', 'show', 'bob\x1b[2J'], 1, /^There is no user bob\ufffd\[2J$/m],
    [
      "somebody's id that another has for a name",
      ['user', 'disable', ada['id']],
      1,
      new RegExp(`write ada or ${namesake['id']}$`, 'm'),
    ],
    ['an overlap', ['client', 'rotate-secret', 'x', '--overlap', '0'], 64, /--leaked/],
    ['a bad setting', ['user', 'list'], 78, /^AUTH_ACCESS_TTL/, { AUTH_ACCESS_TTL: 'soon' }],
    ['another secret', ['user', 'list'], 78, /^AUTH_SECRET/, { AUTH_SECRET: randomUUID() }],
    ['a database that is down', ['user', 'list'], 69, /REFUSED/, pg],
  ]
  const results = await Promise.all(cases.map(([, args, , , more, input]) => run(args, { ...env, ...more }, input)))
  for (const [index, [title, , expected, line]] of cases.entries()) {
    const { code, stdout, stderr } = results[index] as (typeof results)[number]
    t.equal(code, expected, `${title}: ${expected}`)
    t.equal(stdout, '', title)
    t.match(stderr, line, title)
    t.match(stderr, /^.+\n$/, `${title}: one line`)
    t.notMatch(stderr, /geheim/, title)
  }
  const fine = await run(['user', 'list', '--json'], { ...env, AUTH_CLIENTS_FILE: clients, AUTH_DATADIR: 'x' })
  t.match(
    fine,
    { code: 0, stderr: /^AUTH_DATADIR is no setting .* AUTH_DATA_DIR\?\n$/ },
    'what declares clients is the start of a service',
  )
})
