import { execFileSync } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import { Secret, TOTP } from 'otpauth'
import t from 'tap'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import { run } from '../support/cli.ts'
import { basic } from '../support/client-helper.ts'
import { cheapHashing, newDir, storeOf, stores, type Tokens } from '../support/helper.ts'
import { type MailServer, mailUser, partOf, startMailServer } from '../support/mail-server.ts'
import { type Answer, type Call, serviceAt, until } from '../support/processes.ts'
import { startReceiver, webhookSettings } from '../support/receiver.ts'
import { type Running, runProgram } from '../support/running.ts'
import { contentOf, findCodes, findSecrets } from '../support/secrets.ts'

/*
 * The hunt for secrets: a run in which Latchkey is told, and makes, all that is to stay secret, and then a look at
 * whatever it shows and leaves behind.
 */

/** None of them is an example in the sources. */
const password = 'a password that ada remembers'
const newPassword = 'another one, for later'
const wrongPassword = 'a wrong one & no + better'
const importedHash = '$2b$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234'
/** Of a password that is easily guessed from it: it is not to be stored as it is. */
const weakHash = createHash('md5').update('a password of emil').digest('hex')
const rowsNotTaken = 3
const email = 'ada@mail.example'
const codeDigits = /^(\d{4}) ?(\d{4})\r?$/m
const operator = { id: 'operator', secret: 'a secret that the operator has chosen' }

/** Secrets by name, and texts by the place where they were found. */
interface Hunt {
  /** of mails, eight digits, and of an authenticator app, six */
  codes: Record<string, string>
  secrets: Record<string, string | Buffer>
  places: Record<
    'answers' | 'output of commands' | 'log' | 'store' | 'backup' | 'webhooks' | 'arguments of processes',
    string
  >
}

const namesOfSecrets = [
  ...['access_token', 'refresh_token', 'client_secret', 'password', 'link', 'token'],
  ...['secret', 'auth_session', 'authorization_code'],
]

/** What is shown once, to whom it is for, is a secret from then on. @returns the text without it */
function keepShown({ secrets }: Hunt, text: string, shown: Record<string, unknown>): string {
  let rest = text
  const { totp, codes = [], ...others } = shown
  const named = Object.entries({ ...others, ...(totp as object) }).filter(([name]) => namesOfSecrets.includes(name))
  const recoveryCodes = (codes as string[]).map((code) => ['recovery code', code] as const)
  for (const [name, secret] of [...named, ...recoveryCodes]) {
    if (typeof secret !== 'string') continue
    // The key URI of an authenticator app has its secret once more.
    rest = rest.replaceAll(secret, '')
    const count = Object.keys(secrets).length
    if (name === 'access_token') secrets[`signature of ${name} ${count}`] = secret.split('.')[2] as string
    else secrets[`${name} ${count}`] = secret
    if (name === 'refresh_token')
      secrets[`MAC of ${name} ${count}`] = Buffer.from(secret.slice(4), 'base64url').subarray(22)
  }
  return rest
}

/** Does over HTTP what can be done, and what can be done wrong, and asks why. */
async function callAll(hunt: Hunt, origin: string, mails: MailServer): Promise<void> {
  const service = serviceAt(origin)
  const call = async (path: string, options: Call = {}): Promise<Answer> => {
    const answer = await service.call(path, options)
    const text = keepShown(hunt, answer.text, answer.body ?? {})
    hunt.places.answers += `${JSON.stringify([...answer.headers])}\n${text}\n`
    return answer
  }
  const post = (path: string, form: Record<string, string>, options: Call = {}) => call(path, { form, ...options })
  const logIn = async (username: string, secret = password): Promise<Tokens> =>
    (await post('/token', { grant_type: 'password', username, password: secret })).body
  const refresh = (refresh_token: string, options?: Call) =>
    post('/token', { grant_type: 'refresh_token', refresh_token }, options)
  const raw = (path: string, body: string, type: string) => call(path, { body, headers: { 'content-type': type } })
  const [json, form] = ['application/json', 'application/x-www-form-urlencoded']
  const inUrl = encodeURIComponent(password)

  await call('/signup', { json: { username: 'ada.lovelace', password } })
  await call('/signup', { json: { username: 'ada.lovelace', password } })
  await call('/signup', { json: { username: password, password: newPassword } })
  await call('/signup', { json: { username: 'bob', password: [password] } })
  await call(`/signup?password=${inUrl}`, { json: { [password]: newPassword } })
  await raw('/signup', `{"username":"bob","password":"${password}"`, json)
  await raw('/signup', `username=bob&password=${inUrl}`, form)
  await raw('/token', `username=ada.lovelace&password=${inUrl}&password=${inUrl}&refresh_token=%`, form)
  await raw('/token', `username=ada.lovelace&password=${inUrl}`, 'text/plain')
  await post('/token', { username: 'ada.lovelace', password: wrongPassword })
  await post('/token', { username: 'nobody.at.all', password: wrongPassword })
  await post('/token', { username: wrongPassword, password: wrongPassword })
  await post('/token', { username: 'ada.lovelace', password, scope: password, client_id: password })
  await post('/token', { username: 'ada.lovelace', password }, basic({ id: 'ada.lovelace', secret: password }))
  await call(`/token?username=ada.lovelace&password=${inUrl}`, { method: 'POST' })

  const first = await logIn('ada.lovelace')
  const second = (await refresh(first.refresh_token)).body
  const third = (await call('/refresh', { json: { refresh_token: second.refresh_token } })).body
  await call('/protected', { token: third.access_token })
  await call('/protected', { token: `${third.access_token.slice(0, -8)}AAAAAAAA` })
  await call('/protected', { token: third.refresh_token })
  await call(`/protected?access_token=${third.access_token}&refresh_token=${third.refresh_token}`)
  await call(`/${third.refresh_token}`)
  await call(`/%zz${third.refresh_token}`)
  await call('/protected', { headers: { cookie: `token=${third.access_token}` } })
  await call('/livez', { headers: { 'x-request-id': third.refresh_token } })
  await post('/introspect', { token: third.refresh_token, token_type_hint: 'refresh_token' }, basic(operator))
  await refresh(`${third.refresh_token}x`)
  await refresh(third.refresh_token, basic(operator))
  await refresh(first.refresh_token)
  await post('/revoke', { token: (await logIn('ada.lovelace')).refresh_token })
  const { access_token: token } = await logIn('ada.lovelace')
  for (const current_password of [wrongPassword, password])
    await call('/users/me/password', { token, json: { current_password, new_password: newPassword } })
  const { access_token: newToken, refresh_token } = await logIn('ada.lovelace', newPassword)
  await call('/users/me/sessions', { token: newToken })
  await call('/users/me/audit', { token: newToken })
  await call('/users/me', { method: 'DELETE', token: newToken, json: { password: wrongPassword } })

  await useMails(hunt, mails, call, newToken, service.call)
  await useFactors(hunt, call)
  const { access_token: lastToken } = await logIn('ada.lovelace', newPassword)
  await call('/users/me', { token: lastToken })

  const credentials = { grant_type: 'client_credentials' }
  const operatorsToken = (await post('/token', { ...credentials, scope: 'admin' }, basic(operator))).body.access_token
  const admin = (path: string, options: Call = {}) => call(`/admin${path}`, { token: operatorsToken, ...options })
  const { client_secret } = (await admin('/clients', { json: { client_id: 'reports', introspect: 'all' } })).body
  await post('/token', { ...credentials, client_id: 'reports', client_secret })
  await post('/token', credentials, basic({ id: 'reports', secret: wrongPassword }))
  await post('/token', credentials, { headers: { authorization: `Basic ${client_secret}` } })
  await post('/introspect', { token: refresh_token }, basic({ id: 'reports', secret: client_secret }))
  await admin('/clients/reports/rotate-secret', { json: { overlap_seconds: 60 } })
  await admin('/clients')
  const { id } = (await admin('/users', { json: { username: 'eve', password } })).body
  await admin(`/users/${id}/password`, { method: 'PUT', json: { password: newPassword } })
  await logIn('eve', newPassword)
  await admin(`/users/${id}/token`, { method: 'POST' })
  await admin(`/users/${id}/sessions`)
  await admin('/users')
  const invitation = (await admin('/invitations', { json: { username: 'flo', email: 'flo@mail.example' } })).body
  await mailTo(hunt, mails, 'flo@mail.example', 'lki_')
  await call('/signup', { json: { invitation: invitation.token, username: 'another', password } })
  await call('/signup', { json: { invitation: invitation.token, password } })
  await call('/signup', { json: { invitation: invitation.token, password } })
  await admin(`/users/${id}`, { method: 'DELETE' })
  await admin('/keys/rotate', { method: 'POST' })
  await admin('/keys')
  await admin('/audit?limit=100')
  for (const { headers } of [...service.refusals]) {
    const { status } = await admin(`/explain/${headers.get('x-request-id')}`)
    if (status !== 200) throw new Error(`not explained: ${status}`)
  }
}

/** Waits for a mail with a link of a kind. @returns the link's token and the code, which are secrets from then on */
async function mailTo({ secrets, codes }: Hunt, { taken }: MailServer, to: string, prefix: string) {
  const texts = () => taken.filter((mail) => mail.to.includes(to)).map(({ raw }) => partOf(raw, 'text/plain'))
  const find = () => texts().find((text) => text.includes(prefix)) ?? ''
  await until(async () => find() !== '')
  const [token = ''] = new RegExp(`${prefix}[\\w-]{43}`).exec(find()) ?? []
  const code = codeDigits.exec(find())?.slice(1).join('') ?? ''
  secrets[`token ${prefix} to ${to}`] = token
  if (code !== '') codes[`code with ${prefix} to ${to}`] = code
  return { token, code }
}

/** Has an address verified and changed, and the change undone, and resets a password, right and wrong. */
async function useMails(
  hunt: Hunt,
  mails: MailServer,
  call: (path: string, options?: Call) => Promise<Answer>,
  token: string,
  visit: typeof call,
): Promise<void> {
  const post = (path: string, json: object) => call(path, { json })
  const ask = (email: string, password: string) => call('/users/me/email', { token, json: { email, password } })
  await ask(email, wrongPassword)
  const { id } = (await ask(email, newPassword)).body
  const first = await mailTo(hunt, mails, email, 'lkv_')
  for (const wrong of [{ token: `${first.token}x` }, { token: first.code }, { id, code: first.token }])
    await post('/email/verify', wrong)
  await call(`/email/verify?token=${first.token}`)
  // A page holds the token of the link that it was opened by: it is no place to look for it.
  for (const method of ['HEAD', 'GET', 'GET']) await visit(`/verify-email?token=${first.token}`, { method })
  await visit(`/verify-email/${first.token}?token=${first.token}&token=${first.token}`)
  await post('/email/verify', { id, code: first.code })
  await post('/email/verify', { token: first.token })

  const reset = (await post('/password/forgot', { email })).body
  await post('/password/forgot', { email: 'nobody@mail.example' })
  const second = await mailTo(hunt, mails, email, 'lkp_')
  await post('/password/reset', { token: second.token, new_password: second.code })
  await post('/password/reset', { id: reset.id, code: '1234-5678', new_password: newPassword })
  await ask('new@mail.example', newPassword)
  await visit(`/reset?token=${second.token}`)
  const form = { token: second.token, new_password: second.code }
  await visit('/reset', { form })
  await visit('/reset', { form, headers: { origin: 'https://evil.example' } })
  const back = await mailTo(hunt, mails, email, 'lku_')
  await post('/email/verify', { token: (await mailTo(hunt, mails, 'new@mail.example', 'lkm_')).token })
  await visit('/undo-email', { form: { token: back.token } })
  await post('/email/undo', { token: back.token })
  await post('/password/reset', { token: second.token, new_password: newPassword })
  await post('/token', { [back.token]: second.code })
}

/** Adds second factors, and signs in by them, right and wrong. */
async function useFactors(hunt: Hunt, call: (path: string, options?: Call) => Promise<Answer>): Promise<void> {
  const challenge = async (form: Record<string, string>, options: Call = {}) =>
    (await call('/challenge', { form, ...options })).body
  const byPassword = () => challenge({ username: 'gail', password })
  const redeem = async (code: string) =>
    (await call('/token', { form: { grant_type: 'authorization_code', code } })).body.access_token
  await call('/signup', { json: { username: 'gail', password } })
  const token = await redeem((await byPassword()).authorization_code)
  const { id, secret } = (await call('/users/me/factors/totp', { token, json: {} })).body
  const confirm = (code: string) => call(`/users/me/factors/totp/${id}/confirm`, { token, json: { code } })
  const codeIn = (seconds: number) => new TOTP({ secret }).generate({ timestamp: Date.now() + seconds * 1000 })
  hunt.secrets['bytes of the secret of an app'] = Buffer.from(Secret.fromBase32(secret).bytes)
  Object.assign(hunt.codes, { 'code that confirms': codeIn(0), 'code that signs in': codeIn(30) })
  for (const code of [secret, password, codeIn(-3_600), codeIn(0)]) await confirm(code)
  const { codes } = (await call('/users/me/factors/recovery-codes', { token, json: {} })).body
  await call('/users/me/factors', { token })

  // People paste the wrong thing, and into the wrong field.
  for (const name of ['otp', 'recovery_code', 'webauthn', 'enroll'])
    await challenge({ auth_session: (await byPassword()).auth_session, [name]: password })
  for (const name of ['auth_session', 'method', 'acr_values', 'max_age', 'code_challenge', 'resource'])
    await challenge({ username: 'gail', password, otp: codeIn(30), [name]: password })
  const { auth_session } = await byPassword()
  const wrong = await challenge({ auth_session, otp: secret })
  await challenge({ auth_session, otp: codeIn(30) })
  await challenge({ auth_session: wrong.auth_session, recovery_code: codes[0], otp: codeIn(30) })
  await call(`/challenge?auth_session=${wrong.auth_session}&recovery_code=${codes[0]}`, { method: 'POST' })
  await call('/challenge', { json: { auth_session: wrong.auth_session, recovery_code: codes[0] } })
  const next = await challenge({ auth_session: (await byPassword()).auth_session, recovery_code: `${codes[1]}A` })
  const { authorization_code } = await challenge({ auth_session: next.auth_session, recovery_code: codes[1] })
  await call('/token', { form: { grant_type: 'authorization_code', code: codes[2] } })
  const raised = await redeem(authorization_code)
  await challenge({ max_age: '0', acr_values: codes[3] }, { headers: { authorization: `Bearer ${raised}` } })
  await challenge({ max_age: '0' }, { headers: { authorization: `Bearer ${raised}` } })
  await call('/users/me/factors/passkeys/options', { token: raised, method: 'POST' })
  await call('/users/me/factors/passkeys', { token: raised, json: { response: { id: codes[4], rawId: secret } } })
  await challenge({ method: 'webauthn', webauthn: codes[5] })
  await redeem(authorization_code)
  await call('/token', { form: { username: 'gail', password } })
}

/** Does by command what can be done, beside the service. */
async function commandAll(hunt: Hunt, dir: string, env: Record<string, string>): Promise<void> {
  const latchkey = async (args: string, input = '') => {
    const { stdout, stderr, code } = await run(args.split(' '), env, input)
    if (code !== 0 && code !== rowsNotTaken) throw new Error(`latchkey ${args}: ${stderr}`)
    hunt.places['output of commands'] +=
      stderr + keepShown(hunt, stdout, args.endsWith('--json') ? JSON.parse(stdout) : {})
  }
  await latchkey('user add carol --password-stdin --json', newPassword)
  await latchkey('user set-password carol --generate --json')
  await latchkey('client add jobs --json')
  await latchkey('client rotate-secret jobs --json')
  for (const table of ['user', 'client', 'keys']) await latchkey(`${table} list --json`)
  await latchkey(`store backup ${join(dir, 'backup.jsonl.gz')}`)
  hunt.places.backup = gunzipSync(readFileSync(join(dir, 'backup.jsonl.gz'))).toString()
  await latchkey('store check')
  const rows = [
    { external_id: '1', username: 'dora', password_hash: importedHash },
    { external_id: '2', username: 'emil', password_hash: weakHash },
    { external_id: '3', username: 'fran', password: newPassword },
    { external_id: '4', username: password, password: [password] },
  ].map((row) => JSON.stringify(row))
  await latchkey('user import - --from latchkey --wrap', `${rows.join('\n')}\n{"username":"${password}"`)
  await latchkey('user export --yes')
  await latchkey('audit')
  await latchkey('user delete carol --yes')
}

/** What the store has that nobody is shown: its private keys, sealed, and the hash of a password. */
async function openStore(settings: Record<string, string>) {
  const app = await buildApp(readConfig({ ...settings, LOG_LEVEL: 'silent' }))
  try {
    const keys = await storeOf(app).listSigningKeys()
    const privateKeys = keys.map(({ kid, sealedPrivateKey }) => {
      const opened = app.secrets.open(sealedPrivateKey as Uint8Array, `signing key ${kid}`)
      return [`private key ${kid}`, opened?.plaintext as Buffer] as const
    })
    const passwordHash = (await storeOf(app).findUserByName('ada.lovelace'))?.passwordHash as string
    return { privateKeys: Object.fromEntries(privateKeys), passwordHash }
  } finally {
    await app.close()
  }
}

/** Has a service write a snapshot of its heap, for which it collects garbage. @returns the strings in it */
async function heapOf({ child, cwd }: Running, origin: string): Promise<string> {
  const snapshot = () => readdirSync(cwd).find((name) => name.endsWith('.heapsnapshot'))
  child.kill('SIGUSR2')
  await until(async () => snapshot() !== undefined, 60_000)
  // It answers nothing before all of it is written, which takes long on a busy machine.
  const answers = () => serviceAt(origin).call('/livez')
  await until(() => answers().then(Boolean, () => false), 60_000)
  const text = readFileSync(join(cwd, snapshot() as string), 'utf8')
  // They come last, and how they hang together is most of the rest.
  const strings: string[] = JSON.parse(text.slice(text.lastIndexOf('"strings":[') + '"strings":'.length, -1))
  return strings.join('\n')
}

for (const [name, storeSettings] of Object.entries(stores)) {
  t.test(`what is secret is nowhere to be found after a run, at LOG_LEVEL=trace [${name}]`, async (t) => {
    const dir = await newDir(t)
    const clientsFile = join(dir, 'clients.json')
    const { id: client_id, secret: client_secret } = operator
    const declared = { client_id, client_secret, scopes: ['admin'], introspect: 'all' }
    writeFileSync(clientsFile, JSON.stringify([declared]), { mode: 0o600 })
    const settings: Record<string, string> = {
      ...cheapHashing,
      ...(await storeSettings(t)),
      AUTH_SECRET: randomUUID(),
      AUTH_ISSUER: 'http://auth.example',
      AUTH_CLIENTS_FILE: clientsFile,
      LOG_LEVEL: 'trace',
    }
    const receiver = await startReceiver(t)
    const url = `${receiver.url}/a-path-that-only-two-know`
    Object.assign(settings, await webhookSettings(t, [{ url, secret: receiver.secret }]))
    const mails = await startMailServer(t, { allowInsecureAuth: true })
    const login = `${encodeURIComponent(mailUser.user)}:${encodeURIComponent(mailUser.pass)}`
    Object.assign(settings, {
      AUTH_MAIL_FROM: 'Latchkey <accounts@mail.example>',
      AUTH_SMTP_URL: `smtp://${login}@127.0.0.1:${mails.port}`,
    })
    const hunt: Hunt = {
      codes: {},
      secrets: {
        'password of the mail server': mailUser.pass,
        ...{ password, newPassword, wrongPassword, weakHash, 'declared secret': client_secret },
        'bytes of weakHash': Buffer.from(weakHash, 'hex'),
        ...{ 'secret of a webhook': receiver.secret, 'path of a webhook': 'a-path-that-only-two-know' },
        'bytes of the secret of a webhook': Buffer.from(receiver.secret.slice('whsec_'.length), 'base64'),
      },
      places: {
        answers: '',
        'output of commands': '',
        log: '',
        store: '',
        backup: '',
        webhooks: '',
        'arguments of processes': '',
      },
    }
    const service = await runProgram(t, { ...settings, NODE_OPTIONS: '--heapsnapshot-signal=SIGUSR2' })
    const origin = await service.listening()
    await callAll(hunt, origin, mails)
    await commandAll(hunt, dir, settings)
    await until(async () => receiver.received.some(({ type }) => type === 'users.imported'))
    hunt.places.webhooks = JSON.stringify(receiver.received.map(({ type, data }) => [type, data]))
    // A connection to a mail server holds the first mail that it was opened for.
    mails.drop()
    // What is let go of in a moment is not kept: a socket has its last request until the next.
    let heap = ''
    for (let tries = 0; heap === '' || (tries < 3 && findCodes(hunt.codes, { heap }).length > 0); tries++) {
      await sleep(500)
      await serviceAt(origin).call('/livez')
      heap = await heapOf(service, origin)
    }
    hunt.places['arguments of processes'] = execFileSync('ps', ['-A', '-o', 'args='], { encoding: 'utf8' })
    await service.stop()
    hunt.places.log = service.output.stdout + service.output.stderr
    hunt.places.store = await contentOf(settings)
    const { privateKeys, passwordHash } = await openStore(settings)
    Object.assign(hunt.secrets, { AUTH_SECRET: settings['AUTH_SECRET'] }, privateKeys)

    t.ok(Object.keys(hunt.secrets).length > 50, 'there are secrets')
    for (const kind of ['secret', 'recovery code', 'auth_session', 'authorization_code'])
      t.ok(
        Object.keys(hunt.secrets).some((name) => name.startsWith(`${kind} `)),
        kind,
      )
    t.same(findSecrets(hunt.secrets, hunt.places), [])
    t.ok(Object.keys(hunt.codes).length > 2, 'there are codes')
    t.same(findCodes(hunt.codes, { ...hunt.places, heap }), [])
    const inUse = /^(AUTH_SECRET|password of the mail server|path of a webhook|signature of access_token \d+) in heap$/
    const inHeap = findSecrets(hunt.secrets, { heap })
    t.same(
      inHeap.filter((found) => !inUse.test(found)),
      [],
      'nor does the heap keep it, but for what is in use: the settings, and tokens that were checked lately',
    )

    const namesAndHashes = {
      name: 'ada.lovelace',
      'address of a user': email,
      'other name': 'nobody.at.all',
      hash: passwordHash,
      importedHash,
    }
    const found = findSecrets(namesAndHashes, { ...hunt.places, heap })
    const shown = ['name', 'address of a user'].flatMap((name) =>
      ['answers', 'output of commands', 'store', 'backup', 'heap'].map((place) => `${name} in ${place}`),
    )
    for (const each of shown) t.ok(found.includes(each), `what is there is found: ${each}`)
    t.same(
      found.filter((each) => !shown.includes(each)),
      ['hash in store', 'hash in backup', 'importedHash in store'],
      'hashes are where they have to be, and names neither in the log nor in webhooks',
    )
    for (const place of ['log', 'webhooks', 'store'] as const)
      for (const event of ['refresh.reused', 'factor.added', 'recovery_code.used'])
        t.ok(hunt.places[place].includes(event), `${event} is in the ${place}`)
    t.ok(inHeap.includes('AUTH_SECRET in heap'))
  })
}
