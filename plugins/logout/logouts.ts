import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { version } from '../../config/version.ts'
import { type Client, clientBirth } from '../../domain/client.ts'
import type { ShortRecord } from '../../domain/record.ts'
import { type LogoutDue, logoutKind } from '../../stores/tables/browser-sessions.ts'
import { createDueWork, type Save } from '../records/due.ts'
import { FetchFailed } from '../run/guarded-fetch.ts'

declare module 'fastify' {
  interface FastifyInstance {
    logouts: ReturnType<typeof createLogouts>
  }
}

const second = 1000
/** Between two looks at what is due: what this process has ended itself is looked for at once. */
const pollMs = 5 * second
/** Pauses before a client is told again, whatever was wrong. */
export const retriesMs = [5 * second, 30 * second, 120 * second]
/** For one try. */
const answerMs = 5 * second
/** By one process. */
const atOnce = 16
/**
 * A client that has not answered is not asked for the next session within so long: that counts as a try that failed. So
 * one that hangs keeps the others waiting for the time of a single try, however many sessions of it have ended.
 */
const silentMs = 4 * second

/** What the record of an ended session holds, with the tries so far. */
type Due = LogoutDue & { tries?: number }

/**
 * Tells clients that a session of theirs has ended: OpenID Connect Back-Channel Logout 1.0. The step of the store that
 * ends it leaves a record that is due, one for each session. A record is sent once or more; whoever is told twice has
 * nothing left to end.
 */
function createLogouts(
  app: Pick<
    FastifyInstance,
    'config' | 'guardedFetch' | 'store' | 'clients' | 'idTokens' | 'events' | 'jobs' | 'log' | 'now' | 'uptimeMs'
  >,
) {
  const { guardedFetch, store, clients, idTokens, events, log, now, uptimeMs } = app
  const attempts = { told: 0, failed: 0 }
  const silentUntilMs = new Map<string, number>()
  const work = createDueWork(app, {
    kinds: [logoutKind],
    pollMs,
    atOnce,
    deliver,
    words: {
      unseen: 'the clients that are to be told of ended sessions could not be looked for',
      waits: 'a client that is to be told of an ended session waits for the store',
    },
  })

  /** The client of a session, where it wants to be told; undefined too where it is gone, or another has its id. */
  async function findClient({ clientId, clientCreatedAt }: Due): Promise<Client | undefined> {
    const client = await clients.find(clientId)
    return client?.backchannelLogoutUri !== undefined && clientBirth(client) === clientCreatedAt ? client : undefined
  }

  async function deliver(record: ShortRecord, save: Save): Promise<void> {
    const due: Due = JSON.parse(record.data)
    const client = await findClient(due)
    if (!client) return store.removeRecord(record.id)
    const failure = await tryTelling(client, due)
    if (failure === undefined) {
      attempts.told += 1
      log.info({ client_id: client.id, sub: due.sub, sid: due.sid }, 'a client was told that a session has ended')
      return store.removeRecord(record.id)
    }
    // By another process, or after the start.
    if (work.signal.aborted) return save(now())
    attempts.failed += 1
    await fail(record, due, failure, save)
  }

  /** @returns why it was not told */
  async function tryTelling(client: Client, { sub, sid }: Due): Promise<string | undefined> {
    if (uptimeMs() < (silentUntilMs.get(client.id) ?? 0)) return 'it did not answer a moment ago'
    try {
      const token = await idTokens.logoutToken({ client, sub, sid })
      const { status } = await guardedFetch(new URL(client.backchannelLogoutUri as string), {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded', 'user-agent': `Latchkey/${version}` },
        body: new URLSearchParams({ logout_token: token }).toString(),
        withinMs: answerMs,
        signal: work.signal,
      })
      silentUntilMs.delete(client.id)
      return status >= 200 && status <= 299 ? undefined : `it answered ${status}`
    } catch (error) {
      if (!(error instanceof FetchFailed)) throw error
      silentUntilMs.set(client.id, uptimeMs() + silentMs)
      return error.message
    }
  }

  /** Has it told again later, or gives it up. */
  async function fail(record: ShortRecord, due: Due, reason: string, save: Save): Promise<void> {
    const { sub, sid, clientId: client_id, tries: before = 0 } = due
    const told = { sub, client_id, sid, reason, tries: before + 1 }
    const pauseMs = retriesMs[before]
    if (pauseMs === undefined) {
      await store.removeRecord(record.id)
      events.emit({ log }, 'logout.failed', told)
    } else {
      await save(now() + pauseMs, () => JSON.stringify({ ...due, tries: before + 1 } satisfies Due))
      log.warn({ ...told, retry_in_ms: pauseMs }, 'a client was not told that a session has ended')
    }
  }

  work.begin()
  events.on('browser', () => void work.lookOn())
  events.on('session', (_, event) => void (event === 'session.ended' && work.lookOn()))

  return { ...work, attempts }
}

export default fp(
  async (app: FastifyInstance) => {
    const logouts = createLogouts(app)
    app.decorate('logouts', logouts)
    app.addHook('preClose', async () => logouts.stop())
    app.addHook('onClose', () => logouts.close())
  },
  { name: 'logouts', dependencies: ['guarded-fetch', 'store', 'clients', 'id-tokens', 'events', 'jobs'] },
)
