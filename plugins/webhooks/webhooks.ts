import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { Refusal } from '../../errors.ts'
import { toTimestamp } from '../../schemas/parts.ts'
import { StoreUnavailable } from '../../stores/store.ts'
import { readTime } from '../http/times.ts'
import { readEndpoints } from './endpoints.ts'
import { createPositions } from './positions.ts'
import { createSender, pollMs } from './sender.ts'

declare module 'fastify' {
  interface FastifyInstance {
    webhooks: Awaited<ReturnType<typeof createWebhooks>>
  }
}

/** At the end of the app an answer may still come for so long, or for this part of AUTH_SHUTDOWN_GRACE. */
const lastAnswerMs = 1000
const partOfGrace = 4

/**
 * The endpoints of AUTH_WEBHOOKS_FILE, each told of the events that it wants: see docs/webhooks.md. Every process looks
 * what there is to send; which of them sends is decided in the store.
 *
 * @throws {ConfigError} for a file that is not as expected
 */
async function createWebhooks(
  app: Pick<
    FastifyInstance,
    'config' | 'store' | 'guardedFetch' | 'events' | 'jobs' | 'log' | 'command' | 'now' | 'uptimeMs'
  >,
) {
  const { config, jobs, events, command, now } = app
  const { AUTH_WEBHOOKS_FILE: path, AUTH_FETCH_ALLOW: allowed, AUTH_SHUTDOWN_GRACE: grace } = config
  const endpoints = path === undefined ? [] : readEndpoints(path, allowed)
  const positions = createPositions(app)
  const attempts = { delivered: 0, failed: 0 }
  const abort = new AbortController()
  const ending = { isStopping: false, signal: abort.signal }
  const onAttempt = (isDelivered: boolean) => {
    attempts[isDelivered ? 'delivered' : 'failed'] += 1
  }
  const senders = endpoints.map((endpoint) => createSender({ ...app, positions, ending, onAttempt }, endpoint))

  function hostOf(id: string): string {
    const endpoint = endpoints.find((one) => one.id === id)
    if (!endpoint) throw new Refusal('not_found', { detail: 'There is no such webhook' })
    return endpoint.url.host
  }

  if (!command) {
    // Events of the first requests are to be sent already. A store that takes no writes yet is waited for in the round.
    for (const { id } of endpoints) await positions.findOrMake(id).catch(ignoreUnavailable)
    for (const { round } of senders) jobs.every(pollMs, round, 'a webhook could not be looked after')
  }

  return {
    /** of this process, for the metrics */
    attempts,
    senders,
    /** Has it go on with the next event that it has not had, at once: also where it only waits for its next try. */
    async enable(caller: Caller, id: string): Promise<void> {
      const host = hostOf(id)
      await positions.change(id, ({ failing: _, disabledAt: __, holder: ___, ...position }) => ({
        ...position,
        failures: 0,
      }))
      events.emit(caller, 'webhook.enabled', { webhook: id, host })
    },
    /**
     * Has all events since a time sent again, and then those that follow. One that is disabled stays so.
     *
     * @param since a length of time, or a time; of now, what it has not had is passed over
     * @throws {Refusal} for any other text
     */
    async resend(caller: Caller, id: string, since: string): Promise<void> {
      const host = hostOf(id)
      const from = readTime(since, now(), 'since')
      await positions.change(id, ({ deliveredAt, disabledAt }) => ({
        from,
        had: [],
        failures: 0,
        deliveredAt,
        disabledAt,
      }))
      events.emit(caller, 'webhook.resent', { webhook: id, host, since: toTimestamp(from) })
    },
    /** Sends nothing more; an answer that is awaited has a moment yet. */
    stop(): void {
      ending.isStopping = true
      setTimeout(() => abort.abort(), Math.min(lastAnswerMs, grace.ms / partOfGrace)).unref()
    },
  }
}

function ignoreUnavailable(error: unknown): void {
  if (!(error instanceof StoreUnavailable)) throw error
}

export default fp(
  async (app: FastifyInstance) => {
    const webhooks = await createWebhooks(app)
    app.decorate('webhooks', webhooks)
    app.addHook('preClose', async () => webhooks.stop())
  },
  { name: 'webhooks', dependencies: ['guarded-fetch', 'store', 'events', 'jobs'] },
)
