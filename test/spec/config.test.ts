import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { readMailbox, readSmtpUrl } from '../../config/mail.ts'
import { ConfigError, readConfig, Settings } from '../../config.ts'
import { splitHosts } from '../../stores/postgres/hosts.ts'
import { newDir } from '../support/helper.ts'

t.test('every default is good on its own', async (t) => {
  const config = readConfig({})
  t.equal(config.PORT, 3000)
  t.equal(config.AUTH_ISSUER, 'http://localhost:3000')
  t.equal(config.AUTH_AUDIENCE, config.AUTH_ISSUER)
  t.same(config.AUTH_ACCESS_TTL, { seconds: 600, ms: 600_000 }, 'a duration names its units')
  t.equal(config.AUTH_REFRESH_MAX_TTL.seconds, 90 * 86_400)
  t.same(config.warnings, [])
})

t.test('durations are 90, 90s, 10m, 12h or 30d and nothing else', async (t) => {
  for (const [text, seconds] of Object.entries({ '90': 90, '90s': 90, '10m': 600, '12h': 43_200, '30d': 2_592_000 })) {
    t.equal(readConfig({ AUTH_ACCESS_TTL: text }).AUTH_ACCESS_TTL.seconds, seconds, text)
  }
  for (const text of ['0', '-1', '1.5h', '10 m', '10M', '1w', '1e3', 'ten', '٣٠']) {
    t.throws(
      () => readConfig({ AUTH_ACCESS_TTL: text }),
      { message: /^AUTH_ACCESS_TTL: expected a duration .*got / },
      text,
    )
  }
})

const secret = 'a secret of thirty-two characters'
type Env = Record<string, string>
/** What stops the start; undefined when nothing does. */
function problemOf(env: Env): string | undefined {
  try {
    readConfig(env)
    return undefined
  } catch (error) {
    return error instanceof ConfigError ? error.message : `no ConfigError: ${error}`
  }
}
function refuses(t: Test, name: string, texts: string[], more: Env = {}): void {
  for (const text of texts)
    t.match(problemOf({ ...more, [name]: text }), new RegExp(`^${name}: expected [^\\n]+$`), `${name}=${text}`)
}
function takes(t: Test, name: string, texts: string[], more: Env = {}): void {
  for (const text of texts) t.equal(problemOf({ ...more, [name]: text }), undefined, `${name}=${text}`)
}

t.test('a duration is bounded by what a timer and the calendar hold, contract section 6', async (t) => {
  const most: Env = {
    AUTH_SHUTDOWN_GRACE: '1d',
    AUTH_HASH_MAX_WAIT: '1h',
    AUTH_KEEP_ALIVE: '1d',
    AUTH_ACCESS_TTL: '3650d',
    AUTH_KEY_ROTATION: '3650d',
    AUTH_REFRESH_IDLE_TTL: '36500d',
    AUTH_REFRESH_MAX_TTL: '36500d',
    AUTH_REFRESH_GRACE: '7d',
    AUTH_BROWSER_IDLE_TTL: '3650d',
    AUTH_BROWSER_MAX_TTL: '3650d',
    AUTH_STEP_UP_TTL: '3650d',
  }
  const durations = Object.keys(Settings.properties).filter((name) => /_(TTL|GRACE|WAIT|ALIVE|ROTATION)$/.test(name))
  t.same(durations.sort(), Object.keys(most).sort(), 'each of them')
  for (const [name, text] of Object.entries(most)) {
    t.equal(problemOf({ [name]: text }), undefined, `${name}=${text}`)
    const seconds = Number.parseInt(text, 10) * (text.endsWith('h') ? 3600 : 86_400)
    refuses(t, name, [String(seconds + 1), '999999999d'])
    if (!/TTL|ROTATION|REFRESH/.test(name)) t.ok(seconds * 1000 < 2 ** 31, 'setTimeout takes it')
    t.ok(Date.now() + seconds * 1000 < Date.UTC(9999, 0), 'it ends before the year 9999')
  }
})

t.test('AUTH_ISSUER is a URL, RFC 8414 §2', async (t) => {
  takes(t, 'AUTH_ISSUER', [
    ...[
      'https://auth.example.com',
      'http://localhost:3000',
      'https://auth.example.com/',
      'https://Auth.example.com:443/t/1',
    ],
    ...[
      'http://[::1]:3000',
      'http://127.0.0.1',
      'https://example.com/a%20b',
      'https://example.com/t:1',
      'https://example.com/(x)*',
    ],
    ...['https://example.com/ä', 'https://xn--bcher-kva.example', 'https://example.com//a'],
  ])
  refuses(t, 'AUTH_ISSUER', [
    ...[
      'auth.example.com',
      'ftp://auth.example.com',
      'http://',
      'https:///auth',
      'https:auth.example.com',
      'http:/auth.example.com',
    ],
    ...[
      'http://[::1',
      'http://[::g]',
      'http://auth.example.com:65536',
      'http://auth.example.com:x',
      'http://auth.example.com:0',
    ],
    ...[
      'http://auth.example.com:',
      'https://ada@auth.example.com',
      'https://ada:pw@auth.example.com',
      'https://@auth.example.com',
    ],
    ...[
      'https://auth.example.com?x=1',
      'https://auth.example.com?',
      'https://auth.example.com#top',
      'https://auth.example.com/#',
    ],
    ...[
      'https://auth.example.com ',
      ' https://auth.example.com',
      'https://auth.example.com\n',
      'https://auth.\texample.com',
    ],
    ...[
      'https://auth.example.com\\x',
      'https://auth.example.com/a/../b',
      'https://auth.example.com/%2e%2E',
      'https://auth.example.com/.',
    ],
    ...[
      'https://auth.example.com/%',
      'https://auth.example.com/%zz',
      'https://auth.example.com/%ff',
      'https://bücher.example',
    ],
    ...['http://0x7f.1', 'http://127.1', 'http://a b', 'http://a,b.example,c d'],
  ])
})

t.test('AUTH_TRUSTED_PROXIES are addresses and ranges, and no range of strangers', async (t) => {
  takes(t, 'AUTH_TRUSTED_PROXIES', [
    ...[
      '10.0.0.0/8',
      '127.0.0.1',
      '::1',
      'fc00::/7',
      '10.1.2.3/8',
      '192.0.2.1/32',
      '2001:db8::/32',
      '::1/128',
      '::ffff:10.0.0.0/104',
    ],
    ...['10.0.0.0/8,::1', '10.0.0.0/8 , 172.16.0.0/12 ,192.168.0.0/16'],
  ])
  refuses(t, 'AUTH_TRUSTED_PROXIES', [
    ...[
      '0.0.0.0/0',
      '::/0',
      '0.0.0.0/1',
      '128.0.0.0/7',
      '::/1',
      '2000::/3',
      '::ffff:0.0.0.0/96',
      '::ffff:0:0/103',
      '::/64',
      '10.0.0.0/8, ::/0',
    ],
    ...[
      '1.2.3.4/',
      '1.2.3.4/33',
      '::1/129',
      '1.2.3.4/08',
      '1.2.3.4/-1',
      '1.2.3.4/8/8',
      '1.2.3.4/255.0.0.0',
      '010.0.0.1',
      '10.0.0',
      '10',
    ],
    ...['256.0.0.1', '[::1]', '::1::', 'localhost', 'all', '*', '10.0.0.0/8,', ',', '10.0.0.0/8 ::1', 'loopback'],
  ])
})

t.test('AUTH_FETCH_ALLOW are hosts, addresses and ranges', async (t) => {
  takes(t, 'AUTH_FETCH_ALLOW', [
    ...[
      'hooks.internal',
      'localhost',
      '127.0.0.1',
      '::1',
      '10.0.0.0/8',
      'fd00::/8',
      '::ffff:10.0.0.0/104',
      '0.0.0.0/0',
    ],
    ...['hooks.internal, 10.0.0.0/8 ,::1', 'HOOKS.internal.'],
  ])
  refuses(t, 'AUTH_FETCH_ALLOW', [
    ...['*', '*.internal', 'https://hooks.internal', 'hooks.internal:8080', '127.0.0.1:80', '[::1]', 'hooks/8', '10.1'],
    ...[
      '10.0.0.0/33',
      '10.0.0.0/',
      '::1/129',
      '10.0.0.0/8/8',
      '::ffff:10.0.0.0/90',
      'a b',
      'hooks.internal,',
      '0x7f.1',
    ],
  ])
})

t.test('AUTH_CIMD is a switch, or the hosts for which it is on', async (t) => {
  const read = (AUTH_CIMD: string) => readConfig({ AUTH_CIMD }).AUTH_CIMD
  t.same([read('off'), read('on'), read('claude.ai, vscode.dev')], [false, true, ['claude.ai', 'vscode.dev']])
  takes(t, 'AUTH_CIMD', ['localhost', '127.0.0.1', '::1', 'Apps.example.com', 'on.example.com'])
  refuses(t, 'AUTH_CIMD', [
    ...['ON', 'true', '1', 'yes', 'on, claude.ai', 'claude.ai,off', '*', '*.claude.ai', 'https://claude.ai'],
    ...['claude.ai/client.json', 'claude.ai:443', '[::1]:443', 'claude.ai vscode.dev', 'claude.ai,', '0x7f.1'],
  ])
})

t.test('HOST is an address or a name', async (t) => {
  takes(t, 'HOST', [
    '127.0.0.1',
    '0.0.0.0',
    '::',
    '::1',
    'fe80::1%eth0',
    'localhost',
    'x86_64-conda-linux-gnu',
    'a.example.com.',
  ])
  refuses(t, 'HOST', [
    ...[
      '127.0.0.1:3000',
      'localhost:3000',
      '[::1]',
      'http://localhost',
      '3000',
      '127.1',
      '0x7f000001',
      '256.1.1.1',
      'a b',
      ' ',
      '-a',
      'a..b',
    ],
    ...['a/b', 'ä', '*', 'x'.repeat(64), `${'a.'.repeat(127)}a`],
  ])
})

t.test('DATABASE_URL is read as the pool reads it, and no part of it is shown', async (t) => {
  const more = { AUTH_SECRET: secret }
  const good = [
    ...[
      'postgres://h/db',
      'postgresql://u:p@h:5432/db',
      'postgres://u:p@h1:5432,h2:5433/db?sslmode=require',
      'postgres://u:p@[::1]:5432/db',
    ],
    ...[
      'postgres://u:pa%2Fss%40%3A%23%3F%25@h/db',
      'postgres:///db?host=/run/postgresql',
      'postgres://u:p@h/db?options=-csearch_path%3Dx',
    ],
    ...['postgres://u:p@h', 'postgres://u:p@%2Frun%2Fpostgresql/db', 'postgres://u:p@h/db?application_name=a@b'],
  ]
  takes(t, 'DATABASE_URL', good, more)
  const bad = [
    ...[
      'postgres://u:hunter2/x@h/db',
      'postgres://u:12/hunter2@h/db',
      'postgres://u:hunter2#x@h/db',
      'postgres://u:12#hunter2@h/db',
    ],
    ...[
      'postgres://u:hunter2?x@h/db',
      'postgres://u:12?hunter2@h/db',
      'postgres://u:hunter2@h:65536/db',
      'postgres://u:hunter2@h:x/db',
    ],
    ...[
      'postgres://u:hunter2@h:0/db',
      'postgres://u:hunter2@[::1/db',
      'postgres://u:hunter2@h1,,h2/db',
      'postgres://u:hunter2@h1,/db',
    ],
    ...[
      'postgres://u:hunter2@h1:1,h2:99999/db',
      'postgres://u:hunter2@h/db?port=x',
      'postgres://u:hunter2@h/db?sslrootcert=/nowhere',
    ],
    ...['postgres://', 'mysql://u:hunter2@h/db', 'hunter2@h/db', 'postgres:/hunter2'],
  ]
  for (const url of bad) {
    const problem = problemOf({ ...more, DATABASE_URL: url })
    t.match(problem, /^DATABASE_URL: expected a URL [^\n]+$/, url)
    t.notMatch(problem, /hunter2/, 'and no password is shown')
    t.notMatch(problem, /no ConfigError/)
  }
  for (const url of good)
    for (const one of splitHosts(url)) t.doesNotThrow(() => new pg.Client({ connectionString: one }), url)
})

t.test(
  'what Kubernetes sets for Services whose names begin with auth is neither a setting nor warned of, ' +
    'contract section 6',
  async (t) => {
    const env: Env = {}
    for (const service of ['AUTH', 'AUTH_METRICS', 'AUTH_DB', 'AUTH_SIGNUP', 'AUTH_PROXY_2']) {
      Object.assign(env, {
        [`${service}_SERVICE_HOST`]: '10.96.3.4',
        [`${service}_SERVICE_PORT`]: '9090',
        [`${service}_SERVICE_PORT_HTTP`]: '9090',
        [`${service}_PORT`]: 'tcp://10.96.3.4:9090',
        [`${service}_PORT_9090_TCP`]: 'tcp://10.96.3.4:9090',
        [`${service}_PORT_9090_TCP_PROTO`]: 'tcp',
        [`${service}_PORT_9090_TCP_PORT`]: '9090',
        [`${service}_PORT_9090_TCP_ADDR`]: '10.96.3.4',
        [`${service}_PORT_53_UDP`]: 'udp://10.96.3.4:53',
        [`${service}_PORT_53_UDP_ADDR`]: '10.96.3.4',
        [`${service}_PORT_36412_SCTP`]: 'sctp://10.96.3.4:36412',
      })
    }
    const config = readConfig(env)
    t.same(config, readConfig({}))
    t.equal(config.AUTH_METRICS_PORT, undefined)
    for (const scheme of ['udp', 'sctp'])
      t.equal(readConfig({ AUTH_METRICS_PORT: `${scheme}://10.0.0.1:1` }).AUTH_METRICS_PORT, undefined)
    t.match(
      readConfig({ ...env, AUTH_METRIC_PORT: '9090' }).warnings,
      [/^AUTH_METRIC_PORT .*AUTH_METRICS_PORT\?$/],
      'a misspelt one still is',
    )
  },
)

t.test('a setting by variable and by file: the same text means the same', async (t) => {
  const dir = await newDir(t)
  let count = 0
  const file = (text: string) => {
    const path = join(dir, String(++count))
    writeFileSync(path, text)
    return path
  }
  for (const text of [
    secret,
    `${secret}\n`,
    `${secret}\r\n`,
    `  ${secret}\t\n\n`,
    `\ufeff${secret}`,
    `${secret}\n${secret}\n`,
    `${secret} é`,
  ]) {
    const byVariable = readConfig({ AUTH_SECRET: text })
    t.equal(byVariable.AUTH_SECRET, text.trim(), JSON.stringify(text))
    t.equal(readConfig({ AUTH_SECRET_FILE: file(text) }).AUTH_SECRET, byVariable.AUTH_SECRET)
    if (text !== text.trim()) {
      t.equal(byVariable.AUTH_SECRET_PREVIOUS, text, 'what 0.2.0 sealed with it opens')
      t.match(byVariable.warnings, [/^AUTH_SECRET begins or ends with a blank/])
    }
  }
  const url = 'postgres://u:p@h/db'
  for (const text of [url, `${url}\n`, `${url}\r\n`]) {
    t.equal(readConfig({ AUTH_SECRET: secret, DATABASE_URL: text }).DATABASE_URL, url)
    t.equal(readConfig({ AUTH_SECRET: secret, DATABASE_URL_FILE: file(text) }).DATABASE_URL, url)
  }
  for (const text of ['', '\n', ' '.repeat(40), 'short', `short${' '.repeat(40)}`]) {
    t.match(
      problemOf({ AUTH_SECRET_FILE: file(text) }),
      /^AUTH_SECRET_FILE: expected at least 32 characters/,
      JSON.stringify(text),
    )
    if (text !== '')
      t.match(problemOf({ AUTH_SECRET: text }), /^AUTH_SECRET: expected at least 32 characters/, JSON.stringify(text))
  }
  t.match(problemOf({ AUTH_SECRET: secret, DATABASE_URL_FILE: file('') }), /^DATABASE_URL_FILE: expected a URL/)
  const problem = problemOf({ AUTH_SECRET: secret, DATABASE_URL_FILE: file('postgres://u:hunter2/x@h/db') })
  t.match(problem, /^DATABASE_URL_FILE: expected a URL/)
  t.notMatch(problem, /hunter2/)

  const unreadable = [
    dir,
    join(dir, 'nothing'),
    '/dev/null/x',
    ...(process.getuid?.() === 0 ? [] : [chmod(file(secret))]),
  ]
  for (const name of ['AUTH_SECRET_FILE', 'DATABASE_URL_FILE', 'AUTH_SIGNING_KEY_FILE', 'AUTH_CLIENTS_FILE'] as const) {
    for (const path of unreadable)
      t.match(problemOf({ [name]: path }), new RegExp(`^${name}: expected a file that can be read, got `), path)
  }
  for (const name of ['AUTH_SIGNING_KEY_FILE', 'AUTH_CLIENTS_FILE'] as const) refuses(t, name, [file('')])
})

function chmod(path: string): string {
  chmodSync(path, 0)
  return path
}

t.test('two ports are two', async (t) => {
  t.match(
    problemOf({ PORT: '4000', AUTH_METRICS_PORT: '4000' }),
    /^AUTH_METRICS_PORT: expected a port of its own, got that of PORT, 4000$/,
  )
  t.match(problemOf({ AUTH_METRICS_PORT: '3000' }), /^AUTH_METRICS_PORT: expected a port of its own/)
  t.equal(problemOf({ PORT: '0', AUTH_METRICS_PORT: '0' }), undefined, 'two that are free')
  t.equal(problemOf({ PORT: '3000', AUTH_METRICS_PORT: '9090' }), undefined)
})

t.test('AUTH_SMTP_URL names a mail server, and never shows its password', async (t) => {
  const more = { AUTH_MAIL_FROM: 'accounts@example.com' }
  takes(
    t,
    'AUTH_SMTP_URL',
    [
      ...['smtp://localhost', 'smtp://127.0.0.1:1025', 'smtp://[::1]:1025', 'smtps://mail.example.com'],
      ...['smtp://ada:secret@mail.example.com:587', 'smtps://ada%40example.com:a%2Fb%3Ac@mail.example.com:465/'],
      'SMTP://mail.example.com:2525',
    ],
    more,
  )
  const wrong = [
    ...['mail.example.com', 'http://mail.example.com', 'smtp:mail.example.com', 'smtp://', 'smtp://:587'],
    ...['smtp://ada:hunter2@mail.example.com:465', 'smtps://ada:hunter2@mail.example.com:587', 'smtp://h:0'],
    ...['smtp://ada@mail.example.com', 'smtp://:hunter2@mail.example.com', 'smtp://h/?secure=false', 'smtp://h:99999'],
    ...['smtp://ada:hunter2/x@mail.example.com', 'smtp://ada:hunter2#x@mail.example.com', 'smtp://ada:hunter2%zz@h'],
    ...['smtp://ada:hunter2%0d%0a@mail.example.com', 'smtp://ada:hunter2%00@h', 'smtp://h/path', 'smtp://h#top'],
  ]
  refuses(t, 'AUTH_SMTP_URL', wrong, more)
  for (const text of wrong) t.notMatch(problemOf({ ...more, AUTH_SMTP_URL: text }), /hunter2/)
  t.same(readSmtpUrl('smtps://ada%40example.com:a%2Fb%3Ac@mail.example.com'), {
    ...{ host: 'mail.example.com', port: 465, isTlsFirst: true, isLoopback: false },
    auth: { user: 'ada@example.com', pass: 'a/b:c' },
  })
  t.match(readSmtpUrl('smtp://[::1]'), { host: '::1', port: 587, isTlsFirst: false, isLoopback: true })
  const path = join(await newDir(t), 'smtp-url')
  writeFileSync(path, ' smtp://localhost:25\n')
  t.equal(readConfig({ ...more, AUTH_SMTP_URL_FILE: path }).AUTH_SMTP_URL, 'smtp://localhost:25')
})

t.test('AUTH_MAIL_FROM is an address, or a name with one', async (t) => {
  const more = { AUTH_MAIL_DIR: '/tmp/mail' }
  for (const [text, mailbox] of Object.entries({
    'accounts@example.com': { name: '', address: 'accounts@example.com' },
    '<accounts@example.com>': { name: '', address: 'accounts@example.com' },
    'Example <accounts@example.com>': { name: 'Example', address: 'accounts@example.com' },
    '"Example, Inc." <a@example.com>': { name: 'Example, Inc.', address: 'a@example.com' },
    '예제 <a@예제.example>': { name: '예제', address: 'a@예제.example' },
  })) {
    t.same(readMailbox(text), mailbox, text)
    takes(t, 'AUTH_MAIL_FROM', [text], more)
  }
  refuses(
    t,
    'AUTH_MAIL_FROM',
    [
      ...['Example', 'a@', '@b', 'a@b, c@d', 'A <a@b>, B <c@d>', 'A <a@b> <c@d>', 'A <a@b', '"A" a@b', '<>'],
      ...['A\r\nBcc: x@y <a@b>', 'A\u0000 <a@b>', '"A\\" <a@b>', `${'a'.repeat(250)}@b.example`],
    ],
    more,
  )
})

t.test('the settings of mails go together, contract section 10', async (t) => {
  const from = { AUTH_MAIL_FROM: 'Example <accounts@example.com>' }
  const webhook = {
    AUTH_MAIL_WEBHOOK: 'https://mailer.example.com/hook',
    AUTH_MAIL_WEBHOOK_SECRET: `whsec_${'A'.repeat(43)}=`,
  }
  const smtp = { AUTH_SMTP_URL: 'smtp://localhost:1025' }
  const dir = { AUTH_MAIL_DIR: './mail' }
  for (const transport of [smtp, webhook, dir]) {
    t.equal(problemOf({ ...from, ...transport }), undefined)
    t.equal(problemOf({ ...from, ...transport, AUTH_EMAIL: 'required' }), undefined)
    t.match(problemOf({ ...transport }), /^AUTH_MAIL_FROM: expected with AUTH_/)
  }
  t.match(problemOf({ ...from, ...smtp, ...dir }), /^AUTH_MAIL_DIR: expected only one of AUTH_SMTP_URL, /)
  t.match(problemOf({ ...from, ...smtp, ...webhook }), /^AUTH_MAIL_WEBHOOK: expected only one of /)
  t.match(
    problemOf({ AUTH_EMAIL: 'required' }),
    /^AUTH_EMAIL: expected optional where no mail is sent, or AUTH_MAIL_FR/,
  )
  refuses(t, 'AUTH_EMAIL', ['yes', 'REQUIRED'])
  t.match(
    problemOf({ ...from, AUTH_MAIL_WEBHOOK: webhook.AUTH_MAIL_WEBHOOK }),
    /^AUTH_MAIL_WEBHOOK_SECRET: expected with AUTH_MAIL_WEBHOOK, whsec_/,
  )
  refuses(t, 'AUTH_MAIL_WEBHOOK_SECRET', ['hunter2', 'whsec_AAAA', 'whsec_!'], { ...from, ...webhook })
  refuses(
    t,
    'AUTH_MAIL_WEBHOOK',
    [
      ...['mailer.example.com', 'ftp://mailer.example.com', 'http://mailer.example.com', 'https://10.0.0.1/hook'],
      ...['http://10.0.0.1/hook', 'https://ada:pw@mailer.example.com'],
    ],
    { ...from, AUTH_MAIL_WEBHOOK_SECRET: webhook.AUTH_MAIL_WEBHOOK_SECRET },
  )
  const onLoopback = {
    ...from,
    ...webhook,
    AUTH_MAIL_WEBHOOK: 'http://127.0.0.1:9/hook',
    AUTH_FETCH_ALLOW: '127.0.0.1',
  }
  t.equal(problemOf(onLoopback), undefined)
  t.match(readConfig(from).warnings, [/^AUTH_MAIL_FROM is set, and no mail is sent: that needs one of /])
  const withoutPages = { ...onLoopback, AUTH_PAGES: 'off' }
  t.match(readConfig(withoutPages).warnings, [/^AUTH_PAGES is off, and the links in mails lead to nothing/])
  t.same(readConfig({ ...withoutPages, AUTH_PAGES_URL: 'https://a.example' }).warnings, [])
  t.equal(readConfig({ AUTH_ISSUER: 'https://a.example' }).AUTH_PAGES_URL, 'https://a.example')
  refuses(t, 'AUTH_PAGES_URL', ['app.example.com', 'https://app.example.com/?x'])
})
