import { chmodSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { readSmtpUrl } from '../../config/mail.ts'
import { ConfigError, readConfig } from '../../config.ts'
import { readEml } from '../../plugins/mail/transports/eml.ts'
import { createSmtp } from '../../plugins/mail/transports/smtp.ts'
import { type Mail, MailFailed, openTransport, type Transport } from '../../plugins/mail/transports/transport.ts'
import { newDir } from '../support/helper.ts'
import { fieldOf, type MailServer, mailUser, partOf, startMailServer } from '../support/mail-server.ts'
import { newWebhookSecret, startReceiver } from '../support/receiver.ts'

/* How mails leave, contract section 10: by SMTP, to a mailer of one's own, as files. */

const from = { name: 'Example, Inc.', address: 'accounts@example.com' }
const secret = 'lkp_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG'
const mail: Mail = {
  ...{ id: 'Yp3kNw5fXq1b0-_aZ', kind: 'reset', to: 'ada@example.com', locale: 'ko' },
  subject: '비밀번호를 다시 정하기: a subject that is longer than one line of a header can be',
  text: `안녕하세요\n\nhttps://auth.example.com/reset?token=${secret}\n\n12345678\n`,
  html: `<p>안녕하세요</p><a href="https://auth.example.com/reset?token=${secret}">=</a>`,
  link: `https://auth.example.com/reset?token=${secret}`,
  code: '12345678',
}
const never = new AbortController().signal

function smtpTo(t: Test, port: number, { host = '127.0.0.1', auth = true, scheme = 'smtp' } = {}): Transport {
  const login = auth ? `${encodeURIComponent(mailUser.user)}:${encodeURIComponent(mailUser.pass)}@` : ''
  const transport = createSmtp(readSmtpUrl(`${scheme}://${login}${host}:${port}`), from)
  t.teardown(() => transport.close())
  return transport
}

/** Why it does not leave; nothing that is secret is in it. */
async function failureOf(transport: Transport, signal = never): Promise<string> {
  const error = await transport.send(mail, signal).then(
    () => new Error('it has left'),
    (error: Error) => error,
  )
  if (!(error instanceof MailFailed)) throw error
  for (const text of [mailUser.pass, encodeURIComponent(mailUser.pass), secret, '12345678', mail.to])
    if (error.message.includes(text)) throw new Error(`${text} is in ${error.message}`)
  return error.message
}

t.test('a mail server gets one mail, with both texts, for one address', async (t) => {
  const server = await startMailServer(t)
  await smtpTo(t, server.port).send(mail, never)
  const [{ raw = '', ...taken } = {}] = server.taken
  t.match(taken, { from: from.address, to: [mail.to], user: mailUser.user, isEncrypted: true })
  t.equal(fieldOf(raw, 'From'), '"Example, Inc." <accounts@example.com>')
  t.equal(fieldOf(raw, 'To'), mail.to)
  t.equal(fieldOf(raw, 'Subject'), mail.subject)
  t.equal(fieldOf(raw, 'Message-ID'), `<${mail.id}@example.com>`, 'the same at each try')
  t.equal(fieldOf(raw, 'Auto-Submitted'), 'auto-generated', 'nobody out of office answers, RFC 3834')
  t.equal(fieldOf(raw, 'Content-Language'), 'ko')
  t.equal(partOf(raw, 'text/plain').replaceAll('\r\n', '\n').trim(), mail.text.trim())
  t.equal(partOf(raw, 'text/html').trim(), mail.html)
  await smtpTo(t, server.port, { auth: false }).send(mail, never)
  t.equal(server.taken.length, 2, 'and asks for no password where none is set')
})

t.test('nothing in a mail begins another field or names another recipient', async (t) => {
  const server = await startMailServer(t)
  const evil = 'x\r\nBcc: eve@example.com\r\n\r\nhello'
  const from = { name: `Example" <eve@example.com>, "${evil}`, address: 'accounts@example.com' }
  const transport = createSmtp(readSmtpUrl(`smtp://127.0.0.1:${server.port}`), from)
  t.teardown(() => transport.close())
  const sent = { ...mail, subject: evil }
  await transport.send(sent, never)
  for (const to of [`ada@example.com\r\nRCPT TO:<eve@example.com>`, 'ada@example.com, eve@example.com', evil])
    await transport.send({ ...sent, to }, never).catch((error) => t.type(error, MailFailed))
  const dir = await newDir(t)
  const settings = readConfig({ AUTH_MAIL_DIR: dir, AUTH_MAIL_FROM: 'a@example.com' })
  const files = await openTransport(settings, Date.now)
  await files?.send({ ...sent, to: 'ada@example.com' }, never)
  const file = readFileSync(join(dir, readdirSync(dir)[0] as string), 'utf8')
  for (const { raw, to } of [...server.taken, { raw: file, to: [mail.to] }]) {
    t.notOk(to.includes('eve@example.com'))
    t.equal(fieldOf(raw, 'Bcc'), undefined)
    t.equal(
      partOf(raw, 'text/plain').replaceAll('\r\n', '\n').trim(),
      mail.text.trim(),
      'the header ends where it does',
    )
  }
})

t.test('a server that does not take the mail is told of in its own words, without what it may not say', async (t) => {
  const server = await startMailServer(t)
  const transport = smtpTo(t, server.port)
  const dropped = () => {
    server.drop()
    return '451 4.4.2 nobody is there'
  }
  const cases: [MailServer['answer'], RegExp][] = [
    [{ at: 'rcpt', with: `550 5.1.1 <${mail.to}>: no such user` }, /^it answered 550 .*<…>: no such user to RCPT TO$/],
    [{ at: 'rcpt', with: '451 4.7.1 Greylisted, come back' }, /^it answered 451 .*Greylisted, come back to RCPT TO$/],
    [{ at: 'mail', with: '553 5.7.1 Sender not owned' }, /^it answered 553 .*Sender not owned to MAIL FROM$/],
    [{ at: 'data', with: `554 5.7.1 Spam: ${mail.link} ${mail.code}` }, /^it answered 554 .*Spam: … … to DATA$/],
    [{ at: 'auth', with: `535 5.7.8 ${mailUser.pass} is wrong` }, /does not take the user name and the password \(535/],
    [{ at: 'data', with: dropped }, /^it closed the connection$/],
    [{ at: 'connect', with: '421 4.3.2 too many connections' }, /421 4\.3\.2 too many connections/],
  ]
  for (const [answer, expected] of cases) {
    server.answer = answer
    t.match(await failureOf(transport), expected, String(answer?.at))
    // Those that were greeted already are kept.
    server.drop()
  }
  server.answer = { at: 'auth', with: '535 5.7.8 no' }
  await t.rejects(transport.check(never), { message: /the user name and the password \(535/ }, 'asked without a mail')
  server.answer = undefined
  await transport.check(never)
  await transport.send(mail, never)
  t.equal(server.taken.length, 1, 'and then it is taken')
  await server.close()
  t.match(await failureOf(transport), /ECONNREFUSED|it closed the connection/)
})

t.test('without TLS, or with a certificate that is not good, nothing is sent but on this machine', async (t) => {
  const plain = await startMailServer(t, { disabledCommands: ['STARTTLS'], allowInsecureAuth: true })
  const bad = await startMailServer(t)
  const first = await startMailServer(t, { secure: true })
  // Leads to the loopback, and is no name of it.
  const host = '0.0.0.0'
  t.match(
    await failureOf(smtpTo(t, plain.port, { host })),
    /^it has no TLS, which is required but on this machine \(50/,
  )
  t.match(await failureOf(smtpTo(t, bad.port, { host })), /certificate/)
  t.match(await failureOf(smtpTo(t, first.port, { host, scheme: 'smtps' })), /certificate/)
  t.match(await failureOf(smtpTo(t, first.port, { scheme: 'smtps' })), /certificate/, 'whoever asks for it gets it')
  for (const { reached, taken } of [plain, bad, first])
    t.same([taken.length, reached.auth, reached.mail], [0, 0, 0], 'neither the mail nor the password')
  for (const { port } of [plain, bad]) await smtpTo(t, port).send(mail, never)
  t.match([...plain.taken, ...bad.taken], [{ isEncrypted: false }, { isEncrypted: true }])
})

t.test('a server that says nothing, too much, or too slowly is left', async (t) => {
  const sockets: Socket[] = []
  async function startServer(talk: (socket: Socket) => void): Promise<number> {
    const server = createServer((socket) => {
      sockets.push(socket.on('error', () => {}))
      talk(socket)
    })
    t.teardown(() => server.close())
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return (server.address() as { port: number }).port
  }
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
  })
  const endless = await startServer((socket) => {
    for (let i = 0; i < 100; i++) socket.write(`220-${'x'.repeat(1000)}\r\n`)
  })
  t.match(await failureOf(smtpTo(t, endless)), /maximum allowed size/)
  const silent = await startServer(() => {})
  t.equal(await failureOf(smtpTo(t, silent), AbortSignal.timeout(200)), 'it took too long')
  await t.rejects(smtpTo(t, silent).check(AbortSignal.timeout(200)), { message: 'it took too long' })
  const slow = await startServer((socket) => {
    const timer = setInterval(() => socket.write('220-x\r\n'), 20)
    socket.once('close', () => clearInterval(timer))
  })
  const startedAt = performance.now()
  t.equal(await failureOf(smtpTo(t, slow), AbortSignal.timeout(300)), 'it took too long')
  t.ok(performance.now() - startedAt < 5_000)
})

t.test('a mailer of one’s own gets signed JSON, with the id that it had before', async (t) => {
  const receiver = await startReceiver(t)
  const settings = { AUTH_MAIL_FROM: from.address, AUTH_MAIL_WEBHOOK_SECRET: receiver.secret }
  const transport = await openTransport(readConfig({ ...settings, AUTH_MAIL_WEBHOOK: receiver.url }), Date.now)
  if (!transport) throw new Error('off')
  t.teardown(() => transport.close())
  await transport.send(mail, never)
  receiver.answer = 500
  t.equal(await failureOf(transport), 'it answered 500')
  receiver.answer = (_, response) => void response.writeHead(302, { location: receiver.url }).end()
  t.equal(await failureOf(transport), 'it answered 302')
  t.same(receiver.forged, [])
  const [{ headers, path: _, id, ...body } = {} as never] = receiver.received
  t.match(headers, { 'content-type': 'application/json' })
  const { to, kind, locale, subject, text, link, code } = mail
  t.same(body, { type: 'mail', to, kind, locale, subject, text, link, code }, 'all that the contract names')
  t.same([...new Set(receiver.received.map(({ id }) => id))], [mail.id])
  const { link: _l, code: _c, ...notice } = { ...mail, kind: 'sign_in' as const }
  receiver.answer = 204
  await transport.send(notice, never)
  t.notOk('link' in (receiver.received.at(-1) ?? {}))

  const elsewhere = { ...settings, AUTH_MAIL_WEBHOOK: 'https://127.0.0.1.nip.example/' }
  const wrong = await openTransport(
    readConfig({ ...elsewhere, AUTH_MAIL_WEBHOOK_SECRET: newWebhookSecret() }),
    Date.now,
  )
  t.teardown(() => wrong?.close())
  t.match(await failureOf(wrong as Transport), /ENOTFOUND|EAI_AGAIN/)
})

t.test('a directory gets files that only their owner reads, whole, with links in one piece', async (t) => {
  const dir = join(await newDir(t), 'new', 'mail')
  const settings = { AUTH_MAIL_FROM: '예제 <accounts@예제.example>', AUTH_MAIL_DIR: dir }
  const at = Date.UTC(2026, 10, 26, 9, 8, 7, 6)
  const transport = await openTransport(readConfig(settings), () => at)
  await transport?.send(mail, never)
  await transport?.check(never)
  t.same(readdirSync(dir), ['20261126T090807006Z-reset-Yp3kNw5f.eml'])
  const path = join(dir, readdirSync(dir)[0] as string)
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.equal(statSync(dir).mode & 0o777, 0o700)
  const text = readFileSync(path, 'utf8')
  t.ok(text.includes(`\r\n${mail.link}\r\n`), 'to be found by grep')
  t.same(readEml(text), {
    ...{ from: '예제 <accounts@xn--2j5b21b.example>', to: mail.to, subject: mail.subject },
    ...{ date: 'Thu, 26 Nov 2026 09:08:07 +0000', text: mail.text.trim() },
  })
  t.ok(
    text.split('\r\n').every((line) => line.length <= 998),
    'RFC 5322 §2.1.1',
  )

  if (process.getuid?.() !== 0) {
    chmodSync(dir, 0o500)
    t.teardown(() => chmodSync(dir, 0o700))
    t.equal(await failureOf(transport as Transport), 'the directory cannot be written: EACCES')
    await t.rejects(openTransport(readConfig(settings), Date.now), ConfigError)
  }
  await t.rejects(openTransport(readConfig({ ...settings, AUTH_MAIL_DIR: '/dev/null/mail' }), Date.now), {
    message: /^AUTH_MAIL_DIR: expected a directory that can be written, got ENOTDIR for "\/dev\/null\/mail"$/,
  })
})

t.test('without a transport there are no mails', async (t) => {
  t.equal(await openTransport(readConfig({}), Date.now), undefined)
})
