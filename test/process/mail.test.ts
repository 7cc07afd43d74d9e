import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { cheapHashing, newDir, password } from '../support/basics.ts'
import { cert } from '../support/certificate.ts'
import { fieldOf, mailUser, partOf, startMailServer } from '../support/mail-server.ts'
import { isLong, serviceAt, until } from '../support/processes.ts'
import { runProgram } from '../support/running.ts'

/*
 * `kill -9` between the answer and the mail: the mail leaves once or twice, never not at all. The server has a
 * certificate that is checked, and a password that comes by file.
 */

if (isLong) t.setTimeout(300_000)
/** Longer than a process that was killed is taken to have a mail. */
const longestMs = 40_000
const issuer = 'https://auth.example.com/t'

t.test('a mail that was asked for leaves, whenever the process is killed', async (t) => {
  const server = await startMailServer(t, { secure: true })
  const dir = await newDir(t)
  const { user, pass } = mailUser
  const [url, authority] = [join(dir, 'smtp-url'), join(dir, 'authority.pem')]
  await writeFile(url, `smtps://${encodeURIComponent(user)}:${encodeURIComponent(pass)}@localhost:${server.port}\n`)
  await writeFile(authority, cert)
  const settings = {
    ...{ ...cheapHashing, AUTH_ISSUER: issuer, AUTH_DATA_DIR: join(dir, 'data'), NODE_EXTRA_CA_CERTS: authority },
    ...{ AUTH_MAIL_FROM: 'accounts@example.com', AUTH_SMTP_URL_FILE: url },
  }
  const shown: string[] = []
  const moments = isLong ? (['answered', 'sending', 'taken'] as const) : (['answered'] as const)
  for (const [i, moment] of moments.entries()) {
    const { child, listening, ended, output } = await runProgram(t, settings)
    const { signUp, logIn, call } = serviceAt(await listening())
    await signUp(`user-${i}`)
    const { access_token: token } = await logIn(`user-${i}`)
    const kill = () => {
      child.kill('SIGKILL')
      return undefined
    }
    if (moment === 'sending') server.answer = { at: 'rcpt', with: kill }
    if (moment === 'taken') server.answer = { at: 'data', with: kill }
    const email = `user-${i}@example.com`
    const { status, body } = await call('/users/me/email', { token, json: { email, password } })
    t.equal(status, 202)
    if (moment === 'answered') {
      for (const name of ['cmdline', 'environ']) {
        const path = `/proc/${child.pid}/${name}`
        if (existsSync(path)) shown.push(readFileSync(path, 'utf8'))
      }
      kill()
    }
    await ended
    server.answer = undefined
    const next = await runProgram(t, settings)
    await next.listening()
    const sent = () => server.taken.filter(({ to }) => to.includes(email))
    const isTwice = moment === 'taken'
    await until(async () => sent().length > (isTwice ? 1 : 0), longestMs)
    t.equal(sent().length, isTwice ? 2 : 1, moment)
    t.same([...new Set(sent().map(({ raw }) => fieldOf(raw, 'Message-ID')))], [`<${body.id}@example.com>`])
    t.match(sent()[0], { user, isEncrypted: true })
    await next.stop()
    const [link = ''] = /^https:\S+$/m.exec(partOf(sent()[0]?.raw ?? '', 'text/plain')) ?? []
    t.ok(link.startsWith(`${issuer}/verify-email?token=`))
    shown.push(...Object.values(output), ...Object.values(next.output))
    for (const secret of [pass, encodeURIComponent(pass), link.split('token=')[1] as string])
      t.notOk(shown.join('').includes(secret), 'neither log, arguments nor environment has it')
  }
})
