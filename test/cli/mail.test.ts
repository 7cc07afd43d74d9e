import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { readConfig } from '../../config.ts'
import { openTransport } from '../../plugins/mail/transports/transport.ts'
import { newDir } from '../support/basics.ts'
import { run, runJson } from '../support/cli.ts'

/* `latchkey mail`: the mails of AUTH_MAIL_DIR, for whoever develops with it. */

const reset = {
  ...({ id: 'Yp3kNw5fXq1b', kind: 'reset', to: 'ada@example.com', locale: 'ko', subject: '비밀번호' } as const),
  ...{ text: 'Hello\u001b[31m\n\nhttps://auth.example.com/reset?token=lkp_x-_\n\n12345678\n', html: '<p>Hello</p>' },
}

t.test('latchkey mail shows the last one, lists all, and gives link and code to scripts', async (t) => {
  const env = { AUTH_MAIL_DIR: join(await newDir(t), 'mail'), AUTH_MAIL_FROM: 'Example <accounts@example.com>' }
  t.match(await run(['mail'], env), { code: 1, stdout: '', stderr: /There is no mail in / }, 'before the first start')
  t.match(await runJson(['mail', '--list'], env), { code: 0, mails: [] })
  let at = Date.UTC(2026, 10, 26)
  const transport = await openTransport(readConfig(env), () => at)
  const never = new AbortController().signal
  await transport?.send({ ...reset, to: 'bob@example.com', subject: 'Before' }, never)
  at += 1
  await transport?.send(reset, never)
  writeFileSync(join(env.AUTH_MAIL_DIR, 'notes.txt'), 'no mail')
  const { code, stdout } = await run(['mail'], env)
  t.equal(code, 0)
  t.match(stdout, /^from +"Example" <accounts@example.com>\nto +ada@example.com\nsubject +비밀번호$/m)
  t.match(stdout, /^https:\/\/auth.example.com\/reset\?token=lkp_x-_$/m)
  t.notOk(stdout.includes('\u001b'), 'what is in a mail does not control the terminal')
  t.match(await runJson(['mail'], env), {
    ...{ code: '12345678', link: 'https://auth.example.com/reset?token=lkp_x-_', to: 'ada@example.com' },
    ...{ subject: '비밀번호', file: /20261126T000000001Z-reset-Yp3kNw5f\.eml$/ },
  })
  const { stdout: list } = await run(['mail', '--list'], env)
  t.match(list, /ada@example.com +비밀번호.*\n.*bob@example.com +Before /)
})

t.test('where mails are no files it says which setting makes them', async (t) => {
  t.match(await run(['mail']), { code: 78, stderr: /AUTH_MAIL_DIR: expected a directory/ })
  const dir = await newDir(t)
  if (process.getuid?.() === 0) return
  chmodSync(dir, 0)
  t.teardown(() => chmodSync(dir, 0o700))
  const env = { AUTH_MAIL_DIR: dir, AUTH_MAIL_FROM: 'accounts@example.com' }
  t.match(await run(['mail'], env), { code: 78, stderr: /cannot be read: EACCES/ })
})
