import t from 'tap'
import { readAppClients } from '../../cli/doctor/app-clients.ts'
import { runChecks } from '../../cli/doctor/check.ts'
import type { Facts } from '../../cli/doctor/facts.ts'
import { NoAnswer } from '../../cli/doctor/http.ts'
import { checks } from '../../cli/doctor/index.ts'
import { remote } from '../../cli/doctor/remote.ts'
import { bitsOf } from '../../cli/doctor/secret.ts'
import { ConfigError } from '../../config.ts'
import type { Client } from '../../domain/client.ts'
import type { Position } from '../../domain/webhook.ts'
import { MailFailed } from '../../plugins/mail/transports/transport.ts'
import { FetchFailed } from '../../plugins/run/guarded-fetch.ts'
import type { Server, ServerFacts } from '../../stores/postgres/server-facts.ts'
import {
  answer,
  complaints,
  disk,
  goodFacts,
  goodRemote,
  key,
  machine,
  noClients,
  now,
  publicKey,
  rejecting,
  ring,
  secret,
  server,
  settings,
  stages,
} from '../support/doctor.ts'

/* Broken set-ups: each makes the lines that it should, and no other. */

interface SetUp {
  /** beside the good ones; an empty text takes one away */
  env?: Record<string, string>
  facts?: Partial<Facts>
  /** verdict, id and setting of each line that is not ok */
  says: string[]
}

const [hour, day] = [3_600_000, 86_400_000]
/** The embedded store in the place of PostgreSQL. */
const embedded = { DATABASE_URL: '' }
const withServer = (changed: Partial<ServerFacts>) => ({
  servers: async (): Promise<Server[]> => [{ host: 'db:5432', facts: { ...server, ...changed } }],
})
const withSetting = (name: string, value: string) => withServer({ settings: { ...server.settings, [name]: value } })
const file = { path: 'data', mode: 0o700, uid: 1000, isWritable: true }
const secretFile = { path: 'data/secret', mode: 0o600, uid: 1000, isWritable: true }
const refused = rejecting(new NoAnswer('ECONNREFUSED', 'nothing listens there'))

const told = (position: Partial<Position>) => ({ store: stages({ webhooks: { one: { had: [], ...position } } }) })

const mailEnv = { AUTH_MAIL_FROM: 'accounts@example.com', AUTH_SMTP_URL: 'smtp://latchkey:letmein@mail.example.com' }

const setUps: Record<string, SetUp> = {
  'nothing is wrong, on PostgreSQL behind a proxy': { says: [] },
  'nothing is wrong, on the embedded store': { env: embedded, facts: { dataFiles: [file, secretFile] }, says: [] },
  'nothing is set, and nothing was started': {
    env: { HOST: '', AUTH_ISSUER: '', AUTH_TRUSTED_PROXIES: '', AUTH_SECRET: '', DATABASE_URL: '' },
    facts: { isMissing: () => true, secret: () => undefined, issuer: refused, direct: refused, jwks: refused },
    says: [],
  },

  // Settings
  'two settings are wrong': {
    env: { PORT: 'http', AUTH_ACCESS_TTL: '10 minutes' },
    says: ['failed settings: PORT', 'failed settings: AUTH_ACCESS_TTL'],
  },
  'a secret has a blank at its end': {
    env: { AUTH_SECRET: `${secret} ` },
    says: ['warning settings: AUTH_SECRET'],
  },
  'a setting is misspelt': { env: { AUTH_ISSUR: 'x' }, says: ['warning settings.unknown: AUTH_ISSUR'] },
  'argon2 may be weak': { env: { AUTH_INSECURE: '1' }, says: ['warning insecure: AUTH_INSECURE'] },
  'guessing is free': { env: { AUTH_THROTTLE: 'off' }, says: ['warning throttle: AUTH_THROTTLE'] },
  'strangers reach it without a proxy': {
    env: { AUTH_TRUSTED_PROXIES: '' },
    says: [
      'warning listening: AUTH_TRUSTED_PROXIES',
      'warning proxies: AUTH_TRUSTED_PROXIES',
      'failed proxies.forwarded: AUTH_TRUSTED_PROXIES',
    ],
  },
  'the proxy keeps connections longer than we do': {
    env: { AUTH_KEEP_ALIVE: '75s' },
    says: ['warning keep_alive: AUTH_KEEP_ALIVE'],
  },
  'so does that of Google': {
    facts: { issuer: async () => answer({ issuer: settings.AUTH_ISSUER }, { headers: { via: '1.1 google' } }) },
    says: ['warning keep_alive: AUTH_KEEP_ALIVE'],
  },

  'metrics are public': {
    env: { AUTH_METRICS_PORT: '9464' },
    facts: { metrics: async () => answer('# HELP x\n') },
    says: ['warning metrics: AUTH_METRICS_PORT'],
  },

  'pages of other hosts use passkeys, and browsers are told': {
    env: { AUTH_WEBAUTHN_ORIGINS: 'https://app.example.com, https://auth.example.com' },
    says: [],
  },
  'browsers are not told': {
    env: { AUTH_WEBAUTHN_ORIGINS: 'https://app.example.com, https://auth.example.com' },
    facts: { passkeyOrigins: async () => answer('not found', { status: 404 }) },
    says: ['warning passkeys.related: AUTH_WEBAUTHN_ORIGINS'],
  },

  // The secret
  'the secret is that of an example': {
    env: { AUTH_SECRET: 'changeme-changeme-changeme-changeme' },
    says: ['failed secret: AUTH_SECRET'],
  },
  'the secret is one letter': { env: { AUTH_SECRET: 'a'.repeat(64) }, says: ['failed secret: AUTH_SECRET'] },
  'the secret is a row of the alphabet': {
    env: { AUTH_SECRET: 'abcdefghijklmnopqrstuvwxyzabcdefgh' },
    says: ['failed secret: AUTH_SECRET'],
  },
  'the secret is a sentence': {
    env: { AUTH_SECRET: 'correct horse battery staple for ever' },
    says: ['warning secret: AUTH_SECRET'],
  },
  'the previous secret is the same': {
    env: { AUTH_SECRET_PREVIOUS: secret },
    says: ['warning secret.previous: AUTH_SECRET_PREVIOUS'],
  },

  // Files
  'others may read the store': {
    env: embedded,
    facts: {
      dataFiles: [
        { ...file, mode: 0o755 },
        { ...secretFile, mode: 0o644 },
      ],
    },
    says: ['warning files: data', 'warning files: data/secret'],
  },
  'the store belongs to a group, under a user of the platform': {
    env: embedded,
    facts: { dataFiles: [{ ...file, mode: 0o770, uid: 0 }, secretFile] },
    says: [],
  },
  'the store belongs to another user': {
    env: embedded,
    facts: { dataFiles: [file, { ...secretFile, uid: 0, isWritable: false }] },
    says: ['failed files.owner: AUTH_DATA_DIR'],
  },
  'anybody may read .env': {
    facts: { secretFiles: [{ ...secretFile, path: '.env', mode: 0o644 }] },
    says: ['warning files.secrets: .env'],
  },

  // The machine
  'Node.js is too old': { facts: { machine: { ...machine, version: '18.20.1' } }, says: ['failed node: Node.js'] },
  'Node.js gets no fixes': { facts: { machine: { ...machine, version: '20.20.2' } }, says: ['warning node: Node.js'] },
  'Node.js gets no long support': {
    facts: { machine: { ...machine, version: '25.1.0' } },
    says: ['warning node: Node.js'],
  },
  'more hashes at once than a control group has processors': {
    facts: { machine: { ...machine, cores: 64, quota: 1 } },
    says: ['warning cores: AUTH_HASH_CONCURRENCY'],
  },
  'more workers than cores': { env: { AUTH_WORKERS: '4' }, says: ['warning cores: AUTH_WORKERS'] },
  'hashes need more memory than a control group allows': {
    env: { AUTH_ARGON2_MEMORY: '262144' },
    facts: { machine: { ...machine, memoryBytes: 512 * 2 ** 20 } },
    says: ['failed memory: AUTH_HASH_CONCURRENCY'],
  },
  'under load it needs more than a control group allows': {
    facts: { machine: { ...machine, memoryBytes: 256 * 2 ** 20 } },
    says: ['warning memory: the memory limit'],
  },
  'few files may be open': {
    facts: { machine: { ...machine, mostFiles: 1024 } },
    says: ['warning limits.files: ulimit -n'],
  },
  'files may not grow': {
    facts: { machine: { ...machine, mostFileBytes: 2 ** 20 } },
    says: ['warning limits.file_size: ulimit -f'],
  },

  // The disk
  'the disk is nearly full': {
    env: embedded,
    facts: { disk: () => ({ ...disk, freeBytes: 500 * 2 ** 20 }) },
    says: ['warning disk.space: AUTH_DATA_DIR'],
  },
  'the disk is full': {
    env: embedded,
    facts: { disk: () => ({ ...disk, freeBytes: 2 ** 20 }) },
    says: ['failed disk.space: AUTH_DATA_DIR'],
  },
  'the file system has no inodes left': {
    env: embedded,
    facts: { disk: () => ({ ...disk, freeInodes: 0 }) },
    says: ['warning disk.inodes: AUTH_DATA_DIR'],
  },
  'the store is on NFS': {
    env: embedded,
    facts: { disk: () => ({ ...disk, type: 0x6969 }) },
    says: ['failed disk.filesystem: AUTH_DATA_DIR'],
  },
  'the store is in a container': {
    env: embedded,
    facts: { disk: () => ({ ...disk, type: 0x794c7630 }) },
    says: ['warning disk.filesystem: AUTH_DATA_DIR'],
  },

  // The database
  'the database is away': {
    facts: {
      servers: async () => [{ host: 'db:5432', facts: 'connect ECONNREFUSED' }],
      store: rejecting(new Error('connect ECONNREFUSED')),
      keys: rejecting(new Error('connect ECONNREFUSED')),
    },
    says: ['failed database: DATABASE_URL', 'failed store: DATABASE_URL'],
  },
  'one of two databases is away': {
    facts: {
      servers: async () => [
        { host: 'db1:5432', facts: 'connect ECONNREFUSED' },
        { host: 'db2:5432', facts: server },
      ],
    },
    says: ['warning database: DATABASE_URL'],
  },
  'there are standbys only': {
    facts: withServer({ isStandby: true }),
    says: ['failed database: DATABASE_URL'],
  },
  'the database is read-only': {
    facts: withSetting('default_transaction_read_only', 'on'),
    says: ['failed database: default_transaction_read_only of the database'],
  },
  'the database is old': {
    facts: withServer({ number: 130020, version: 'PostgreSQL 13.20' }),
    says: ['warning database.version: the database'],
  },
  'it is CockroachDB': { facts: withServer({ number: 130000, version: 'CockroachDB CCL v25.3.1' }), says: [] },
  'the database has another encoding': {
    facts: withSetting('server_encoding', 'SQL_ASCII'),
    says: ['failed database.encoding: the database'],
  },
  'the database does not sync': {
    facts: withSetting('fsync', 'off'),
    says: ['failed database.fsync: fsync of the database'],
  },
  'the database answers before it syncs': {
    facts: withSetting('synchronous_commit', 'off'),
    says: ['failed database.synchronous_commit: synchronous_commit of the database'],
  },
  'pages may be torn': {
    facts: withSetting('full_page_writes', 'off'),
    says: ['warning database.full_page_writes: full_page_writes of the database'],
  },
  'a synchronous standby is away': {
    facts: withSetting('synchronous_standby_names', 'db2'),
    says: ['failed database.standbys: synchronous_standby_names of the database'],
  },
  'a standby is behind': {
    facts: withServer({ standbys: [{ state: 'streaming', sync: 'async', lagMs: hour }] }),
    says: ['warning database.standbys: the standby'],
  },
  'a standby that this user may not see': {
    facts: withServer({ standbys: [{ state: null, sync: null, lagMs: null }] }),
    says: [],
  },
  'connections are nearly used up': {
    facts: withServer({ connections: 90 }),
    says: ['warning database.connections: max_connections of the database'],
  },
  'the database has fewer connections than the workers take': {
    env: { AUTH_WORKERS: '2' },
    facts: withSetting('max_connections', '20'),
    says: ['failed database.connections: max_connections of the database'],
  },
  'a pooler by statement': {
    facts: withServer({ pooling: 'statement' }),
    says: ['failed database.pooling: pool_mode of the pooler'],
  },
  'the way to the database is open': {
    facts: withServer({ isEncrypted: false, isVerified: false }),
    says: ['warning database.tls: DATABASE_URL'],
  },
  'the certificate of the database is not checked': {
    facts: withServer({ isVerified: false }),
    says: ['warning database.tls: DATABASE_URL'],
  },
  'the schema is that of the release before': {
    facts: withServer({ steps: [1, 2] }),
    says: ['warning database.schema: Latchkey'],
  },
  'the schema is that of a later release': {
    facts: withServer({ steps: [1, 99] }),
    says: ['warning database.schema: Latchkey'],
  },
  'the first start may not make its tables': {
    facts: withServer({ steps: undefined, mayCreate: false }),
    says: ['failed database.schema: the user in DATABASE_URL'],
  },

  // Who administers
  'an administrator has no second factor, and need not': {
    facts: { store: stages({ administrators: { found: 2, lacking: ['ada'], isAll: true } }) },
    says: [],
  },
  'an administrator has none of the second factors that AUTH_MFA demands': {
    env: { AUTH_MFA: 'admins' },
    facts: { store: stages({ administrators: { found: 2, lacking: ['ada'], isAll: false } }) },
    says: ['warning mfa.admins: AUTH_MFA'],
  },

  'a client takes passwords and may not use /challenge, and nobody has to have a second factor': {
    facts: { store: stages({ appClients: { ...noClients, deadEnds: ['web'] } }) },
    says: [],
  },
  'a client takes passwords and may not use /challenge, where AUTH_MFA demands a second factor': {
    env: { AUTH_MFA: 'required' },
    facts: { store: stages({ appClients: { ...noClients, deadEnds: ['web'] } }) },
    says: ['warning mfa.clients: the clients'],
  },
  'a client may not use /challenge where none takes passwords': {
    env: { AUTH_MFA: 'required', AUTH_PASSWORD_GRANT: 'off' },
    facts: { store: stages({ appClients: { ...noClients, deadEnds: ['web'] } }) },
    says: [],
  },

  'people sign in to a client in the browser, and there are no pages': {
    env: { AUTH_PAGES: 'off' },
    facts: { store: stages({ appClients: { ...noClients, inBrowser: ['web'] } }) },
    says: ['warning clients.browser: AUTH_PAGES'],
  },
  'a browser may be sent back to a client, which may not trade its code in': {
    facts: { store: stages({ appClients: { ...noClients, inBrowser: ['web'], withoutGrant: ['old'] } }) },
    says: ['warning clients.browser: the clients'],
  },
  'apps may come unregistered, and private hosts may be asked': {
    env: { AUTH_CIMD: 'on', AUTH_FETCH_ALLOW: '10.0.0.0/24' },
    says: ['warning clients.unregistered: AUTH_CIMD'],
  },
  'apps of some hosts may come unregistered': {
    env: { AUTH_CIMD: 'claude.ai', AUTH_FETCH_ALLOW: '10.0.0.0/24' },
    says: [],
  },
  'apps may come unregistered, and there are no pages': {
    env: { AUTH_CIMD: 'on', AUTH_PAGES: 'off' },
    says: ['warning clients.unregistered: AUTH_PAGES'],
  },
  'a client is told of logouts at an address that may not be called any more': {
    facts: { store: stages({ appClients: { ...noClients, logoutUris: [['web', 'http://10.0.0.9/logout']] } }) },
    says: ['warning clients.logout: AUTH_FETCH_ALLOW'],
  },
  'a client is told of logouts at a private address that is named': {
    env: { AUTH_FETCH_ALLOW: '10.0.0.0/24' },
    facts: { store: stages({ appClients: { ...noClients, logoutUris: [['web', 'http://10.0.0.9/logout']] } }) },
    says: [],
  },

  // The store and its keys
  'the embedded store is damaged': {
    env: embedded,
    facts: {
      store: rejecting(new Error('data.mdb is cut short')),
    },
    says: ['failed store: AUTH_DATA_DIR'],
  },
  'reads are slow': {
    facts: { store: stages({ readMs: 40, writeMs: 45 }) },
    says: ['warning store.read: DATABASE_URL'],
  },
  'the disk syncs slowly': {
    env: embedded,
    facts: { store: stages({ readMs: 0.1, writeMs: 300 }) },
    says: ['warning store.write: AUTH_DATA_DIR'],
  },
  'the disk takes no writes': {
    env: embedded,
    facts: { store: stages({ writeMs: new Error('No space left on device') }) },
    says: ['failed store.write: AUTH_DATA_DIR'],
  },
  'the secret is not that of the store': {
    facts: { keys: async () => ring(key({ sealedBy: 'another' })) },
    says: ['failed keys.secret: AUTH_SECRET'],
  },
  'an old key does not open': {
    facts: {
      keys: async () => ring(key(), key({ kid: 'two', sealedBy: 'another', signsFrom: now - 2 * day })),
      jwks: async () => answer({ keys: [{ kid: 'one' }, { kid: 'two' }] }),
    },
    says: ['warning keys.secret: AUTH_SECRET_PREVIOUS'],
  },
  'a key is due for long': {
    facts: { keys: async () => ring(key({ signsFrom: now - 91 * day })) },
    says: ['warning keys.age: AUTH_KEY_ROTATION'],
  },
  'the next key is on its way': {
    facts: { keys: async () => ring(key({ kid: 'two', signsFrom: now + 60_000, createdAt: now }), key()) },
    says: [],
  },
  'another algorithm is wanted': {
    env: { AUTH_SIGNING_ALG: 'EdDSA' },
    says: ['warning keys.age: AUTH_SIGNING_ALG'],
  },

  // Webhooks
  'the file of the webhooks is wrong': {
    facts: {
      webhooks() {
        throw new ConfigError('AUTH_WEBHOOKS_FILE: expected an array')
      },
    },
    says: ['failed webhooks: AUTH_WEBHOOKS_FILE'],
  },
  'a webhook is not there': {
    facts: { reach: rejecting(new FetchFailed('connect ECONNREFUSED')) },
    says: ['failed webhooks.reach: the receiver'],
  },
  'the name of a webhook turns into a private address': {
    facts: { reach: rejecting(new FetchFailed('hooks.example.com turns into 10.0.0.1', true)) },
    says: ['failed webhooks.reach: AUTH_FETCH_ALLOW'],
  },
  'a webhook is tried again': {
    facts: told({ failures: 2, failing: { at: now, retryAt: now, why: 'it answered 500' } }),
    says: ['warning webhooks.told: the receiver'],
  },
  'a webhook is disabled': {
    facts: told({ failures: 7, disabledAt: now }),
    says: ['failed webhooks.told: the receiver'],
  },

  // Mails
  'mails leave': { env: mailEnv, says: [] },
  'the mail server does not take the login': {
    env: mailEnv,
    facts: { askMailer: rejecting(new MailFailed('it does not take the user name and the password (535 5.7.8)')) },
    says: ['failed mail.reach: AUTH_SMTP_URL'],
  },
  'mails are files, and others are to get them': {
    env: { AUTH_MAIL_FROM: 'accounts@example.com', AUTH_MAIL_DIR: '/dev/null/mail' },
    says: ['warning mail: AUTH_MAIL_DIR'],
  },
  'the directory of the mails is a file': {
    env: { AUTH_MAIL_FROM: 'accounts@example.com', AUTH_MAIL_DIR: '/dev/null' },
    says: ['warning mail: AUTH_MAIL_DIR', 'failed mail.reach: AUTH_MAIL_DIR'],
  },

  // Clocks
  'the clock is off by half a minute': {
    facts: withServer({ aheadMs: 30_000 }),
    says: ['warning clock.store: the clock'],
  },
  'the clock is off by an hour': { facts: withServer({ aheadMs: -hour }), says: ['failed clock.store: the clock'] },
  'the clock of the issuer is off': {
    facts: {
      issuer: async () =>
        answer({ issuer: settings.AUTH_ISSUER }, { headers: { date: new Date(now + hour).toUTCString() } }),
    },
    says: ['failed clock.issuer: the clock'],
  },

  // The issuer
  'the issuer is plain HTTP': {
    env: { AUTH_ISSUER: 'http://auth.example.com' },
    says: ['warning settings: AUTH_ISSUER', 'warning issuer.https: AUTH_ISSUER'],
  },
  'the issuer does not answer': {
    facts: { issuer: rejecting(new NoAnswer('ENOTFOUND', 'the name has no address')) },
    says: ['failed issuer: AUTH_ISSUER'],
  },
  'the certificate is not trusted': {
    facts: { issuer: rejecting(new NoAnswer('DEPTH_ZERO_SELF_SIGNED_CERT', 'the certificate is self-signed')) },
    says: ["failed issuer: the proxy's certificate"],
  },
  'the issuer leads elsewhere': {
    facts: { issuer: async () => answer('', { status: 301, headers: { location: 'https://www.example.com/' } }) },
    says: ['failed issuer: AUTH_ISSUER'],
  },
  'another issuer answers': {
    facts: { issuer: async () => answer({ issuer: 'https://auth.example.com/' }) },
    says: ['failed issuer.equal: AUTH_ISSUER'],
  },
  'the issuer is on another store': {
    facts: { jwks: async () => answer({ keys: [{ kid: 'other' }] }) },
    says: ['failed issuer.keys: AUTH_ISSUER'],
  },
  'the proxy has old keys': {
    facts: { jwks: async () => answer({ keys: [{ kid: 'one' }, { kid: 'gone' }] }) },
    says: ['warning issuer.keys: the proxy'],
  },
  'the certificate ends in a week': {
    facts: { certificate: async () => ({ validToMs: now + 7 * day, issuer: 'x' }) },
    says: ["warning issuer.certificate: the proxy's certificate"],
  },
  'the certificate has ended': {
    facts: { certificate: async () => ({ validToMs: now - 7 * day, issuer: 'x' }) },
    says: ["failed issuer.certificate: the proxy's certificate"],
  },

  // The service, and how requests come to it
  'the service is not ready': {
    facts: { direct: async () => answer({ detail: 'The store is unavailable' }, { status: 503 }) },
    says: ['failed service: the store'],
  },
  'something else has the port': {
    facts: { direct: async () => answer('<html>') },
    says: ['warning service: PORT'],
  },
  'the service has another secret': {
    facts: { arrived: async () => undefined },
    says: ['warning proxies.direct: AUTH_SECRET', 'warning proxies.forwarded: AUTH_SECRET'],
  },
  'the service runs with other proxies than are set': {
    facts: {
      arrived: async (by, claimed = '') =>
        by === 'direct'
          ? { peer: '127.0.0.1', forwarded_for: claimed, address: claimed }
          : { peer: '10.0.0.2', forwarded_for: '198.51.100.9', address: '198.51.100.9' },
    },
    says: ['failed proxies.direct: AUTH_TRUSTED_PROXIES'],
  },
  'the proxy says nothing of its client': {
    facts: { arrived: async () => ({ peer: '10.0.0.2', forwarded_for: '', address: '10.0.0.2' }) },
    says: ['warning proxies.forwarded: the proxy'],
  },
  'the proxy is not trusted': {
    env: { AUTH_TRUSTED_PROXIES: '10.9.9.9' },
    facts: { arrived: async () => ({ peer: '10.0.0.2', forwarded_for: '198.51.100.9', address: '10.0.0.2' }) },
    says: ['failed proxies.forwarded: AUTH_TRUSTED_PROXIES'],
  },
  'the first of two proxies is not trusted': {
    facts: {
      arrived: async () => ({ peer: '10.0.0.2', forwarded_for: '198.51.100.9, 10.0.0.1', address: '10.0.0.1' }),
    },
    says: ['warning proxies.forwarded: AUTH_TRUSTED_PROXIES'],
  },
  'the proxy passes on what clients claim': {
    facts: {
      arrived: async (by, claimed = '198.51.100.9') =>
        by === 'direct'
          ? { peer: '127.0.0.1', forwarded_for: claimed, address: '127.0.0.1' }
          : { peer: '10.0.0.2', forwarded_for: claimed, address: claimed },
    },
    says: ['failed proxies.forged: the proxy'],
  },

  'where this asks from is taken for a proxy': {
    facts: {
      arrived: async (by, claimed = '') =>
        by === 'direct'
          ? { peer: '127.0.0.1', forwarded_for: claimed, address: '127.0.0.1' }
          : { peer: '10.0.0.2', forwarded_for: `${claimed}, 10.0.0.2`, address: claimed || '10.0.0.2' },
    },
    says: ['warning proxies.forged: AUTH_TRUSTED_PROXIES'],
  },

  // Hashing
  'a login takes a second': {
    facts: { hash: async () => ({ ms: 1100, build: 'prebuilt' }) },
    says: ['warning hash.time: AUTH_ARGON2_MEMORY'],
  },
}

for (const [title, { env = {}, facts = {}, says }] of Object.entries(setUps)) {
  t.test(title, async (t) => {
    const lines = await runChecks(checks, goodFacts({ ...settings, ...env }, facts))
    t.same(complaints(lines), says)
    for (const { seen, advice, verdict, id } of lines) {
      t.ok(seen !== '', `${id} says what was seen`)
      if (verdict === 'warning' || verdict === 'failed') t.ok(advice, `${id} says what to do`)
    }
  })
}

t.test('every check may fail or warn, but those that only tell', async (t) => {
  const said = new Set(Object.values(setUps).flatMap(({ says }) => says.map((line) => line.split(/[ :]/)[1])))
  t.same(
    checks.map(({ id }) => id).filter((id) => !said.has(id)),
    ['signup', 'secret.place', 'keys.file', 'passkeys', 'hash.build'],
  )
})

const url = 'https://auth.example.com'
const metadata = { issuer: url, jwks_uri: `${url}/.well-known/jwks.json` }
const hsts = { headers: { 'strict-transport-security': 'max-age=31536000' } }
const noStore = { 'cache-control': 'no-store', pragma: 'no-cache' }
const client = { LATCHKEY_CLIENT_ID: 'files', LATCHKEY_CLIENT_SECRET: 'lks_secret' }
const atMetadata = (json: unknown, options: object = hsts) => ({
  '/.well-known/openid-configuration': answer(json, options),
})
const atKeys = (keys: object[]) => ({
  '/.well-known/jwks.json': answer({ keys }, { headers: { 'cache-control': 'public, max-age=300' } }),
})

const services: Record<string, { remote: Parameters<typeof goodRemote>; says: string[] }> = {
  'nothing is wrong': { remote: [], says: [] },
  'nothing answers': {
    remote: [{ '/.well-known/openid-configuration': new NoAnswer('ENOTFOUND', 'the name has no address') }],
    says: ['failed url: AUTH_ISSUER'],
  },
  'something else answers': { remote: [atMetadata('<html>')], says: ['failed url: AUTH_ISSUER'] },
  'it is plain HTTP': {
    remote: [
      atMetadata({ issuer: 'http://auth.example.com', jwks_uri: 'http://auth.example.com/.well-known/jwks.json' }),
      { url: 'http://auth.example.com' },
    ],
    says: ['failed url.https: the proxy'],
  },
  'its certificate has ended': {
    remote: [{}, { certificate: async () => ({ validToMs: now - day, issuer: 'x' }) }],
    says: ["failed url.certificate: the proxy's certificate"],
  },
  'it answers in plain HTTP too': {
    remote: [{ 'http://auth.example.com/livez': answer({ status: 'ok' }) }],
    says: ['failed url.redirect: the proxy'],
  },
  'it has no HSTS': { remote: [atMetadata(metadata, {})], says: ['warning url.hsts: the proxy'] },
  'it is not ready': {
    remote: [{ '/readyz': answer({}, { status: 503 }) }],
    says: ['failed url.live: the store'],
  },
  'it is another issuer': {
    remote: [
      atMetadata({ issuer: 'https://login.example.com', jwks_uri: 'https://login.example.com/.well-known/jwks.json' }),
    ],
    says: ['failed url.issuer: AUTH_ISSUER'],
  },
  'a private key is published': {
    remote: [atKeys([{ ...publicKey, d: 'secret' }])],
    says: ['failed url.keys: the signing keys'],
  },
  'two keys have one kid': { remote: [atKeys([publicKey, publicKey])], says: ['failed url.keys: the proxy'] },
  'a key has an algorithm that is none of ours': {
    remote: [atKeys([{ ...publicKey, alg: 'HS256' }])],
    says: ['failed url.keys: the proxy'],
  },
  'its clock is off': {
    remote: [atMetadata(metadata, { headers: { ...hsts.headers, date: new Date(now - hour).toUTCString() } })],
    says: ['failed url.clock: the clock'],
  },
  'it is far away': {
    remote: [{ '/livez': { ...answer({ status: 'ok' }), ms: 900 } }],
    says: ['warning url.latency: the way there'],
  },
  'answers of /token may be cached': {
    remote: [{ '/token': answer({ error: 'invalid_request' }, { status: 400 }) }],
    says: ['failed url.no_store: the proxy'],
  },
  'POST does not get through': {
    remote: [{ '/token': answer('', { status: 403, headers: noStore }) }],
    says: ['failed url.no_store: the proxy'],
  },
  'the proxy tells its version': {
    remote: [atMetadata(metadata, { headers: { ...hsts.headers, server: 'nginx/1.22.1' } })],
    says: ['warning url.headers: the proxy'],
  },
  'the proxy lets every page in': {
    remote: [{ '/livez': answer({ status: 'ok' }, { headers: { 'access-control-allow-origin': '*' } }) }],
    says: ['failed url.cors: the proxy'],
  },
  'administration is open': {
    remote: [{ '/admin/users': answer({ users: [] }) }],
    says: ['failed url.admin: the proxy'],
  },
  'metrics are public': {
    remote: [{ 'http://auth.example.com:9091/metrics': answer('# HELP x\n') }, { env: { AUTH_METRICS_PORT: '9091' } }],
    says: ['failed url.metrics: AUTH_METRICS_PORT'],
  },
  'a client may not follow revocations': {
    remote: [{ '/revocations': answer({ detail: 'no' }, { status: 403 }) }, { env: client }],
    says: ['failed url.revocations: LATCHKEY_CLIENT_ID'],
  },
  'the proxy holds the stream back': {
    remote: [{ '/revocations': answer({ revocations: [] }) }, { env: client }],
    says: ['failed url.revocations: the proxy'],
  },
}

for (const [title, { remote: given, says }] of Object.entries(services)) {
  t.test(`from outside: ${title}`, async (t) => {
    t.same(complaints(await runChecks(remote, goodRemote(...given))), says)
  })
}

t.test('from outside, too, every check may fail or warn', async (t) => {
  const said = new Set(Object.values(services).flatMap(({ says }) => says.map((line) => line.split(/[ :]/)[1])))
  t.same(
    remote.map(({ id }) => id).filter((id) => !said.has(id)),
    [],
  )
})

t.test('what "openssl rand" and a UUID print is strong, whatever comes', async (t) => {
  const { randomBytes, randomUUID } = await import('node:crypto')
  for (let i = 0; i < 200; i++) {
    for (const text of [randomBytes(48).toString('base64'), randomBytes(16).toString('hex'), randomUUID()])
      t.ok(bitsOf(text) >= 88, text)
  }
})

t.test('a check that hangs is told of, and does not hold up the others without end', async (t) => {
  const find = () => new Promise<never>(() => {})
  // More than fit in, also where each timer is a millisecond early.
  const hanging = [...'abcdefgh'].map((id) => ({ id, find }))
  const startedAt = performance.now()
  const lines = await runChecks(hanging, {}, () => {}, { checkMs: 40, totalMs: 100 })
  t.ok(performance.now() - startedAt < 1000)
  t.match(lines[0], { verdict: 'failed' })
  t.match(lines.at(-1), { verdict: 'skipped' })
})

t.test('clients by which people cannot sign in are found on any page, disabled ones aside', async (t) => {
  const grants = ['password', 'refresh_token']
  const pages: Partial<Client>[][] = [
    [
      { id: 'first-party', grants },
      { id: 'own', grants: [...grants, 'authorization_code'], firstParty: true },
    ],
    [
      { id: 'web', grants },
      { id: 'half', grants, firstParty: true },
      { id: 'off', grants, disabledAt: 1 },
    ],
    [
      { id: 'service', grants: ['client_credentials'], redirectUris: [] },
      { id: 'shop', grants: ['authorization_code'], redirectUris: ['https://a.example'] },
      { id: 'lost', grants: ['refresh_token'], redirectUris: ['https://a.example'], backchannelLogoutUri: 'https://b' },
    ],
  ]
  const listClients = async ({ after = '0' }: { after?: string }) => {
    const next = String(Number(after) + 1)
    return { clients: pages[Number(after)] as Client[], ...(Number(next) < pages.length && { next }) }
  }
  t.same(await readAppClients({ listClients }), {
    ...{ deadEnds: ['web', 'half'], inBrowser: ['shop'], withoutGrant: ['lost'] },
    logoutUris: [['lost', 'https://b']],
  })
})
