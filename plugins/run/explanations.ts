import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Check, CheckName } from '../../domain/checks.ts'
import { networkOf } from '../../domain/network.ts'
import type { ShortRecord } from '../../domain/record.ts'
import type { ErrorCode, Refusal } from '../../errors.ts'
import { createBatches } from './batches.ts'
import { createRecentRefusals } from './recent-refusals.ts'

declare module 'fastify' {
  interface FastifyInstance {
    explanations: ReturnType<typeof createExplanations>
  }
}

/** Why a request was refused. */
export interface Explanation {
  /** the `x-request-id` of the answer: always one of ours, never what a client has sent */
  requestId: string
  at: number
  /** method and pattern, such as `DELETE /users/me/sessions/:id`: a path that came in may hold a secret */
  route: string
  status: number
  code: ErrorCode
  checks: Check[]
}

/** As it is kept. A text of its own, for parts of what a client sent would keep all of it in memory. */
export interface KeptExplanation {
  requestId: string
  at: number
  /** JSON of the rest */
  data: string
}

const open = ({ requestId, at, data }: KeptExplanation): Explanation => ({ requestId, at, ...JSON.parse(data) })

/** Which request was refused. */
interface Refused {
  requestId: string
  route: string
  address: string
}

/** In memory, each under 2 KiB; a network may have a tenth where others want room. */
const mostRecent = 5_000
const recentOfNetwork = 500
/** In the store, of each process: so a storm fills nothing. What comes beyond is in memory alone. */
const rowsPerMinute = 600
const rowsPerMinuteOfNetwork = 300
const batching = { rowsAtOnce: 100, pauseMs: 200, retryMs: 5_000 }

const kind = 'refusal'
/** What people ask about later, and what another process has to be able to answer. */
const storedStatuses = [403, 409, 429]
const ofAccounts: CheckName[] = ['account', 'password']

const isForStore = ({ statusCode, checks }: Refusal) =>
  statusCode >= 500 || storedStatuses.includes(statusCode) || checks.some(({ name }) => ofAccounts.includes(name))

/**
 * Why requests were refused, by their `x-request-id`, for administrators. The answer to the request says no more than
 * its client may know.
 *
 * Failed logins and what is 403, 409, 429 or 5xx goes to the store, in batches behind the answers; what is lost with a
 * process that is killed is the last moment. All other refusals are in the memory of the process.
 */
function createExplanations({
  config,
  store,
  log,
  command,
  now,
  uptimeMs,
}: Pick<FastifyInstance, 'config' | 'store' | 'log' | 'command' | 'now' | 'uptimeMs'>) {
  const retentionMs = config.AUTH_EXPLAIN_RETENTION.ms
  const recent = createRecentRefusals(mostRecent, recentOfNetwork)
  const batches = createBatches<KeptExplanation>({
    ...batching,
    write: async (rows) => void (await store.importRows('records', rows.map(toRecord))),
    log,
    failed: 'why requests were refused could not be stored, and is in memory',
  })
  /** Asks the other processes of this machine; undefined where there are none. */
  let askOthers: ((requestId: string) => Promise<Explanation | undefined>) | undefined

  let minuteBeganMs = uptimeMs()
  let rows = 0
  const rowsOf = new Map<string, number>()
  function takeRow(network: string): boolean {
    if (uptimeMs() - minuteBeganMs >= 60_000) {
      minuteBeganMs = uptimeMs()
      rows = 0
      rowsOf.clear()
    }
    const ofNetwork = rowsOf.get(network) ?? 0
    // A store that does not answer leaves them here.
    if (rows >= rowsPerMinute || ofNetwork >= rowsPerMinuteOfNetwork || batches.waiting >= rowsPerMinute) return false
    rows += 1
    rowsOf.set(network, ofNetwork + 1)
    return true
  }

  function toRecord({ requestId: id, at, data }: KeptExplanation): ShortRecord {
    const times = { createdAt: at, expiresAt: at + retentionMs, misses: 0, version: 1 }
    return { id, kind, owner: '', source: '', data, ...times }
  }

  function heldHere(requestId: string): Explanation | undefined {
    const held = batches.find((one) => one.requestId === requestId) ?? recent.find(requestId)
    return held && now() < held.at + retentionMs ? open(held) : undefined
  }

  return {
    /** Keeps why a request is refused. A command's own requests are answered to whoever typed it. */
    keep({ requestId, route, address }: Refused, refusal: Refusal): void {
      if (command) return
      const { statusCode: status, code, checks } = refusal
      const explanation = { requestId, at: now(), data: JSON.stringify({ route, status, code, checks }) }
      const network = networkOf(address, 32)
      if (isForStore(refusal) && takeRow(network)) batches.add(explanation)
      else recent.add(network, explanation)
    },

    heldHere,

    /** @param ask is bounded in time, and never fails */
    askOthersBy(ask: (requestId: string) => Promise<Explanation | undefined>): void {
      askOthers = ask
    },

    /**
     * Finds out why a request was refused: here, in the other processes of this machine, in the store.
     *
     * @returns undefined where it was not, or is forgotten by now
     */
    async find(requestId: string): Promise<Explanation | undefined> {
      const held = heldHere(requestId) ?? (await askOthers?.(requestId))
      if (held) return held
      const record = await store.findRecord({ kind, id: requestId, now: now() })
      return record && open({ requestId, at: record.createdAt, data: record.data })
    },

    close: batches.close,
  }
}

/** The route of a request as it is kept; what is no route of ours is not repeated. */
export const routeOf = ({ method, routeOptions }: FastifyRequest): string =>
  `${method} ${routeOptions?.url ?? '(no route)'}`

/** After the store, so that at the end it writes before the store closes. */
export default fp(
  async (app: FastifyInstance) => {
    app.decorate('explanations', createExplanations(app))
    app.addHook('onClose', () => app.explanations.close())
  },
  { name: 'explanations', dependencies: ['store'] },
)
