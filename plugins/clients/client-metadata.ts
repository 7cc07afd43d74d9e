import { lookup } from 'node:dns/promises'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Lru } from 'toad-cache'
import { checked } from '../../domain/checks.ts'
import { type Client, isUnregistered } from '../../domain/client.ts'
import { type ClientMetadata, readMetadata, WrongMetadata } from '../../domain/client-metadata.ts'
import { Refusal } from '../../errors.ts'
import { createGuardedFetch, FetchFailed, type GuardedAnswer } from '../run/guarded-fetch.ts'

declare module 'fastify' {
  interface FastifyInstance {
    clientMetadata: ReturnType<typeof createClientMetadata>
  }
}

const second = 1000
const minute = 60 * second
const hour = 60 * minute
/** A person is waiting for the page. */
const withinMs = 5 * second
/** §8.7 of the draft. */
const mostBytes = 5 * 1024
/** How long a document is taken for the present one: what its server says, within bounds. */
const fresh = { leastMs: minute, mostMs: 24 * hour, unsaidMs: hour }
/** That it could not be had is no answer of its server, so it is not kept as one (§5.1): only asked for at a pace. */
const failedMs = 10 * second
const mostKnown = 500
/** Strangers decide what is asked for: it must neither be many for this service, nor for one that they do not like. */
const mostAtOnce = 20
const mostOfHost = { requests: 30, withinMs: minute }

/**
 * Apps that nobody has registered: their metadata is fetched from the URL that is their `client_id`, when a browser comes
 * from one of them.
 */
export function createClientMetadata({
  clients,
  guardedFetch,
  uptimeMs,
}: Pick<FastifyInstance, 'clients' | 'guardedFetch' | 'uptimeMs'>) {
  const known = new Lru<{ reading: Promise<ClientMetadata>; until: number }>(mostKnown)
  const hosts = new Lru<{ since: number; requests: number }>(mostKnown)
  let atOnce = 0

  function count(host: string): void {
    const now = uptimeMs()
    const before = hosts.get(host)
    const entry = before && now - before.since < mostOfHost.withinMs ? before : { since: now, requests: 0 }
    entry.requests += 1
    hosts.set(host, entry)
    if (atOnce >= mostAtOnce || entry.requests > mostOfHost.requests)
      throw new FetchFailed('too many documents are asked for just now')
  }

  async function ask(id: string): Promise<{ metadata: ClientMetadata; freshMs: number }> {
    const url = new URL(id)
    count(url.host)
    atOnce += 1
    try {
      const headers = { accept: 'application/json', 'user-agent': 'latchkey' }
      const answer = await guardedFetch(url, { method: 'GET', headers, withinMs, mostBytes })
      return { metadata: readMetadata(id, bodyOf(answer)), freshMs: freshMsOf(answer.headers['cache-control']) }
    } finally {
      atOnce -= 1
    }
  }

  /** One look for all who come meanwhile. */
  function metadataOf(id: string): Promise<ClientMetadata> {
    const entry = known.get(id)
    if (entry && uptimeMs() < entry.until) return entry.reading
    const asking = ask(id)
    const next = { reading: asking.then(({ metadata }) => metadata), until: Number.POSITIVE_INFINITY }
    known.set(id, next)
    asking.then(
      ({ freshMs }) => (next.until = uptimeMs() + freshMs),
      () => (next.until = uptimeMs() + failedMs),
    )
    return next.reading
  }

  return {
    /**
     * The client by which a browser comes: as `clients.find`, and one that nobody has registered with its name and its
     * redirect_uris.
     *
     * @throws {Refusal} 400 where there is no metadata of it; the answer does not say why, for strangers could ask so
     * what is where
     */
    async find(id: string): Promise<Client | undefined> {
      const client = await clients.find(id)
      if (!client || client.disabledAt !== undefined || !isUnregistered(client)) return client
      try {
        return { ...client, ...(await metadataOf(id)) }
      } catch (error) {
        if (!(error instanceof FetchFailed || error instanceof WrongMetadata)) throw error
        throw new Refusal('invalid_request', {
          detail: 'The URL in client_id does not serve the metadata of an app that can be used here',
          reason: error.message,
          checks: [checked('client_metadata', error.message), checked('client', id)],
        })
      }
    },
  }
}

/** @throws {WrongMetadata} for an answer that is none of a document, whatever is in it */
function bodyOf({ status, headers, body, isWhole }: GuardedAnswer): Buffer {
  if (status !== 200) throw new WrongMetadata(`the answer was ${status}`)
  // Where strangers may store files, they are seldom served as that.
  if (!/^application\/([\w.-]+\+)?json *(;|$)/i.test(headers['content-type'] ?? ''))
    throw new WrongMetadata('its content type is not application/json')
  if (!isWhole) throw new WrongMetadata(`it has more than ${mostBytes} bytes`)
  return body
}

/** RFC 9111 §5.2.2, as far as it matters. */
function freshMsOf(cacheControl = ''): number {
  const { leastMs, mostMs, unsaidMs } = fresh
  if (/\bno-(store|cache)\b/i.test(cacheControl)) return leastMs
  const [, seconds] = /\bmax-age="?(\d{1,9})/i.exec(cacheControl) ?? []
  return seconds === undefined ? unsaidMs : Math.min(Math.max(Number(seconds) * second, leastMs), mostMs)
}

export default fp(
  async (app: FastifyInstance) => {
    // Its own, with one look-up at a time: a name server that a stranger has chosen can keep nothing else waiting.
    const { fetch: guardedFetch, close } = createGuardedFetch(app.config.AUTH_FETCH_ALLOW, lookup, 1)
    const { clients, uptimeMs } = app
    app.decorate('clientMetadata', createClientMetadata({ clients, guardedFetch, uptimeMs }))
    app.addHook('onClose', async () => close())
  },
  { name: 'client-metadata', dependencies: ['guarded-fetch', 'clients'] },
)
