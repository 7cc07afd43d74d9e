import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { version } from '../../config/version.ts'
import { type Amr, signInMethodOf, signInMethods } from '../../domain/authentication.ts'
import { type WebhookState, webhookStates } from '../../domain/webhook.ts'
import { loginFailures } from '../../events.ts'
import type { Usage } from '../../stores/store.ts'
import type { Meters } from './meters.ts'

/** Beyond what a poll of the revocations takes: by then another process should know. */
const lagBuckets = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]
const waitBuckets = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

type Reading<Part extends keyof FastifyInstance> = (meters: Meters, app: Pick<FastifyInstance, Part>) => void

const readLogins: Reading<'events'> = ({ counter }, { events }) => {
  const counted = counter('latchkey_events_total', 'Events, by the name that they are logged under', ['event'])
  const logins = counter(
    'latchkey_logins_total',
    'Logins, by outcome',
    ['outcome'],
    ['succeeded', 'throttled', ...loginFailures.map(labelOf)],
  )
  const signIns = counter(
    'latchkey_sign_ins_total',
    'People who have signed in, by what they have signed in with',
    ['method'],
    [...signInMethods],
  )
  events.onAny((event, members) => {
    counted.inc({ event })
    const { amr = ['pwd'], browser } = members as { amr?: Amr[]; browser?: string }
    // Of an app in a browser: there its user had signed in before.
    const isSignIn = event === 'browser.signed_in' || (event === 'login.succeeded' && browser === undefined)
    if (isSignIn) {
      logins.inc({ outcome: 'succeeded' })
      signIns.inc({ method: signInMethodOf(amr) })
    } else if (event === 'login.failed') logins.inc({ outcome: labelOf((members as { reason: string }).reason) })
    else if (event === 'login.throttled' && (members as { kind: string }).kind === 'user')
      logins.inc({ outcome: 'throttled' })
  })
}
const labelOf = (reason: string) => reason.replaceAll(' ', '_')

const readChallenges: Reading<'challenges'> = ({ totals }, { challenges }) =>
  totals(
    'latchkey_challenges_total',
    'Sign-ins of several steps, by whether they came to an end',
    'outcome',
    () => challenges.counts,
  )

const readHashing: Reading<'hashing'> = ({ gauge, histogram, totals }, { hashing }) => {
  gauge('latchkey_hashes_running', 'Password hashes being computed', () => hashing.load.running)
  gauge('latchkey_hashes_waiting', 'Requests that wait for a password hash', () => hashing.load.waiting)
  gauge('latchkey_hashes_limit', 'Password hashes at once, at most', () => hashing.concurrency)
  totals(
    'latchkey_hashes_refused_total',
    'Requests refused as overloaded: no place to wait, no turn in time, or displaced by one from elsewhere',
    'reason',
    () => hashing.refused,
  )
  const waits = histogram('latchkey_hash_wait_seconds', 'Wait for the turn to hash', [], waitBuckets)
  const durations = histogram('latchkey_hash_duration_seconds', 'Time of a password hash', [], waitBuckets)
  hashing.onTurn((waitedMs, hashMs) => {
    waits.observe(waitedMs / 1000)
    durations.observe(hashMs / 1000)
  })
}

const readRevocations: Reading<'revocations' | 'now'> = ({ gauge, histogram }, { revocations, now }) => {
  // Every worker knows all of them.
  gauge('latchkey_revocations', 'Revocations in force', () => revocations.size, 'max')
  gauge(
    'latchkey_revocations_age_seconds',
    'Time since the store was last read for revocations to its end; after 300 no token is vouched for',
    () => revocations.ageMs / 1000,
    'max',
  )
  const lags = histogram(
    'latchkey_revocation_lag_seconds',
    'Time from a revocation, here or in another process, until this process knows it',
    [],
    lagBuckets,
  )
  revocations.follow(({ revocations }) => {
    for (const { revokedAt } of revocations) lags.observe(Math.max(0, now() - revokedAt) / 1000)
  })
}

const least = (times: number[]) => (times.length > 0 ? Math.min(...times) : undefined)

const readKeys: Reading<'signingKeys' | 'config' | 'now'> = ({ gauge, gauges }, { signingKeys, config, now }) => {
  const secondsSince = (at: number | undefined) => (at === undefined ? undefined : (now() - at) / 1000)
  const current = () => signingKeys.known().filter(({ state }) => state === 'current')
  gauge(
    'latchkey_signing_key_age_seconds',
    'Time since the key that signs began to; of several algorithms, the oldest',
    () => secondsSince(least(current().map(({ signsFrom }) => signsFrom))),
    'max',
  )
  gauge(
    'latchkey_signing_key_rotation_due_seconds',
    "Time until a key that is not made yet has to sign, negative when overdue; absent for an operator's own key",
    () => {
      const isOwn = (alg: string) => config.AUTH_SIGNING_KEY_FILE !== undefined && alg === config.AUTH_SIGNING_ALG
      const newest = current().map(({ alg }) => signingKeys.known().find((key) => key.alg === alg))
      const due = newest.flatMap((key) => (key && !isOwn(key.alg) ? [key.signsFrom + config.AUTH_KEY_ROTATION.ms] : []))
      const first = least(due)
      return first === undefined ? undefined : (first - now()) / 1000
    },
    'min',
  )
  gauges(
    'latchkey_signing_keys',
    'Published signing keys: the current one, the next and previous ones',
    'state',
    () => {
      const counts = { current: 0, next: 0, previous: 0 }
      for (const { state } of signingKeys.known()) counts[state] += 1
      return counts
    },
    'max',
  )
}

const readSweeper: Reading<'sweeper'> = ({ gauge, totals }, { sweeper }) => {
  totals('latchkey_swept_rows_total', 'Expired rows removed, by table', 'table', () => sweeper.progress.removed)
  gauge(
    'latchkey_sweep_behind_seconds',
    'What had expired this long ago is swept, as far as this process did it: the least of all processes counts',
    () => sweeper.progress.behindMs / 1000,
    'min',
  )
}

const readWebhooks: Reading<'webhooks'> = ({ gauge, gauges, totals }, { webhooks }) => {
  totals(
    'latchkey_webhook_attempts_total',
    'Events that were sent to webhooks, by whether they were taken',
    'outcome',
    () => webhooks.attempts,
  )
  // Every process looks; one of them sends.
  gauges(
    'latchkey_webhooks',
    'Webhooks, by how they are',
    'state',
    () => {
      const counts = Object.fromEntries(webhookStates.map((state) => [state, 0])) as Record<WebhookState, number>
      for (const { seen } of webhooks.senders) counts[seen.state] += 1
      return counts
    },
    'max',
  )
  gauge(
    'latchkey_webhook_lag_seconds',
    'How long an event has waited for a webhook that is not disabled: of all of them the longest',
    () => {
      const lags = webhooks.senders.filter(({ seen }) => seen.state !== 'disabled').map(({ seen }) => seen.behindMs)
      return lags.length > 0 ? Math.max(...lags) / 1000 : undefined
    },
    'max',
  )
}

const readMail: Reading<'mail' | 'outbox'> = ({ gauge, totals }, { mail, outbox }) => {
  totals(
    'latchkey_mail_attempts_total',
    'Mails that were sent, by whether they were taken',
    'outcome',
    () => outbox.attempts,
  )
  // Every process looks.
  gauge(
    'latchkey_mail_lag_seconds',
    'How long a mail has waited to be sent, of all that are due the longest',
    () => (mail.isOn ? outbox.waitedMs / 1000 : undefined),
    'max',
  )
}

const readLogouts = ({ gauge, totals }: Meters, logouts: FastifyInstance['logouts']) => {
  totals(
    'latchkey_logout_attempts_total',
    'Clients that were told of an ended session, by whether they took it',
    'outcome',
    () => logouts.attempts,
  )
  gauge(
    'latchkey_logout_lag_seconds',
    'How long a client has waited to be told of an ended session, of all that are due the longest',
    () => logouts.waitedMs / 1000,
    'max',
  )
}

const readAudit: Reading<'audit'> = ({ total }, { audit }) =>
  total(
    'latchkey_audit_dropped_total',
    'Events that are in the log alone, because the store took them too slowly',
    () => audit.dropped,
  )

const ofStore: { [Name in keyof Usage]: Record<keyof Usage[Name], [metric: string, help: string]> } = {
  lmdb: {
    mapBytes: ['latchkey_lmdb_map_bytes', 'Memory map of the store, which grows with it'],
    usedBytes: ['latchkey_lmdb_used_bytes', 'Pages of the file that hold rows'],
    freeBytes: ['latchkey_lmdb_free_bytes', 'Pages of the file that are free'],
    diskFreeBytes: ['latchkey_disk_free_bytes', 'Room on the disk of AUTH_DATA_DIR'],
  },
  pg: {
    open: ['latchkey_pg_connections', 'Connections to PostgreSQL'],
    idle: ['latchkey_pg_connections_idle', 'Connections to PostgreSQL that nobody uses'],
    most: ['latchkey_pg_connections_limit', 'Connections to PostgreSQL, at most'],
    waiting: ['latchkey_pg_waiting', 'Calls that wait for a connection'],
  },
}

const readStore: Reading<'store'> = ({ gauge }, { store }) => {
  // Workers have one file, and connections each.
  const aggregator = store.name === 'lmdb' ? 'max' : 'sum'
  const usage = () => store.usage() as Record<string, number> | undefined
  for (const [member, [metric, help]] of Object.entries(ofStore[store.name as keyof Usage]))
    gauge(metric, help, () => usage()?.[member], aggregator)
}

/** What the other plugins count and know, told when Prometheus asks. */
export default fp(
  async (app: FastifyInstance, { droppedLines = () => 0 }: { droppedLines?: (() => number) | undefined }) => {
    const { meters } = app.metrics as NonNullable<FastifyInstance['metrics']>
    readLogins(meters, app)
    readChallenges(meters, app)
    readHashing(meters, app)
    readRevocations(meters, app)
    readKeys(meters, app)
    readSweeper(meters, app)
    readAudit(meters, app)
    readStore(meters, app)
    readWebhooks(meters, app)
    readMail(meters, app)
    // It is not there with AUTH_PAGES=off.
    if (app.hasDecorator('logouts')) readLogouts(meters, app.getDecorator('logouts'))
    meters.total('latchkey_log_lines_dropped_total', 'Log lines that nobody read in time', droppedLines)
    meters.total(
      'latchkey_event_loop_active_seconds_total',
      'Time that the event loop was busy: its rate is the utilisation, 1 for a full core',
      () => performance.eventLoopUtilization().active / 1000,
    )
    meters.info('latchkey_build_info', 'What runs', {
      version,
      node: process.version,
      store: app.store.name,
      argon2: app.hashing.build,
    })
  },
  {
    name: 'readings',
    dependencies: [
      'metrics',
      'events',
      'challenges',
      'hashing',
      'revocations',
      'signing-keys',
      'sweeper',
      'audit',
      'store',
      'webhooks',
      'mail',
      'outbox',
    ],
  },
)
