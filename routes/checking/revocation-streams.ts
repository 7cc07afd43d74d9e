import { once } from 'node:events'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { checked } from '../../domain/checks.ts'
import { Refusal } from '../../errors.ts'
import type { RevocationPage } from '../../stores/tables/revocations.ts'
import { textOf } from './revocation-pages.ts'

/** A follower that hears nothing for a few of these takes the connection for dead. */
const heartbeatMs = 5_000
/** A follower with more unsent than this gets no new events. It reads on in the store once it has taken these. */
const maxUnsentBytes = 256 * 1024
/** A follower that takes nothing for this long is dropped. It may come again with its cursor. */
const maxStalledMs = 5_000
/** Time to flush before the socket is destroyed. */
const flushBeforeCloseMs = { lostRight: 10_000, stalled: 300, draining: 300 }
const maxStreams = { total: 1_000, perClient: 200 }
const retryMs = 1_000
const retryAfterSeconds = { draining: '1', overloaded: '5' }

/**
 * Streams of revocations as server-sent events (WHATWG HTML §9.2). No entry is lost; one may come twice.
 *
 * Not by a plugin: the existing ones queue without a bound for a client that does not read, and format each event anew
 * for each client.
 */
export function createStreams(
  { revocations, clients, drain }: Pick<FastifyInstance, 'revocations' | 'clients' | 'drain'>,
  readPage: (position: string | undefined) => Promise<RevocationPage>,
) {
  const open = new Set<(flushMs: number) => void>()
  const openByClient = new Map<string, number>()
  drain.signal.addEventListener('abort', () => {
    for (const close of open) close(flushBeforeCloseMs.draining)
  })

  function admit(clientId: string): void {
    if (drain.signal.aborted) throw new Refusal('draining', { headers: { 'retry-after': retryAfterSeconds.draining } })
    const ofClient = openByClient.get(clientId) ?? 0
    const reason =
      open.size >= maxStreams.total
        ? 'too many streams'
        : ofClient >= maxStreams.perClient
          ? 'too many streams of this client'
          : undefined
    if (reason !== undefined) {
      const ofAll = checked('streams', open.size, maxStreams.total)
      const checks = [checked('streams_of_client', ofClient, maxStreams.perClient), checked('client', clientId)]
      if (open.size >= maxStreams.total) checks.unshift(ofAll)
      throw new Refusal('overloaded', { reason, checks, headers: { 'retry-after': retryAfterSeconds.overloaded } })
    }
    openByClient.set(clientId, ofClient + 1)
  }
  function release(clientId: string): void {
    const ofClient = (openByClient.get(clientId) ?? 0) - 1
    if (ofClient > 0) openByClient.set(clientId, ofClient)
    else openByClient.delete(clientId)
  }

  /**
   * Begins a stream.
   *
   * @param since the cursor to begin at; undefined for everything in force
   * @throws {Refusal} 503 when there are too many streams, or this process shuts down; {StoreUnavailable}
   */
  async function stream(reply: FastifyReply, clientId: string, since: string | undefined): Promise<FastifyReply> {
    admit(clientId)
    const socket = reply.raw
    let position = since
    /** whether the follower has everything in the store, and gets new entries as they come */
    let isLive = false
    /** whether entries have come while it was not */
    let hasNews = false

    const send = (page: RevocationPage) => {
      position = page.cursor
      socket.write(textOf(page).event)
    }
    const endFollowing = revocations.follow((page) => {
      if (isLive && socket.writableLength <= maxUnsentBytes) send(page)
      else {
        hasNews = true
        if (isLive) void catchUp().catch(() => close(flushBeforeCloseMs.stalled))
      }
      // It may have lost the right to follow. If it has not, it comes again.
      if (page.revocations.some(({ kind, id }) => kind === 'client' && id === clientId))
        close(flushBeforeCloseMs.lostRight)
    })
    const close = (flushMs: number) => {
      if (!open.delete(close)) return
      release(clientId)
      endFollowing()
      clearInterval(heartbeat)
      if (!reply.sent) return
      socket.end()
      // A follower that does not read would hold the connection, and a shutdown with it.
      if (!socket.writableFinished) setTimeout(() => socket.destroy(), flushMs).unref()
    }
    const beat = async () => {
      try {
        const client = await clients.find(clientId)
        if (client === undefined || client.disabledAt !== undefined || client.introspect === 'none')
          close(flushBeforeCloseMs.lostRight)
        else if (isLive && revocations.isUpToDate)
          socket.write(`event: heartbeat\nid: ${revocations.cursor}\ndata: {}\n\n`)
      } catch {
        // The store does not answer: without heartbeats the follower knows that it may miss something.
      }
    }
    const heartbeat = setInterval(beat, heartbeatMs).unref()
    open.add(close)
    // Before the first read: the follower may leave while the store answers.
    socket.on('close', () => close(0))
    socket.on('error', () => close(0))

    /** Waits until the follower has taken what was sent. @throws after `maxStalledMs` */
    async function flushed(): Promise<void> {
      if (socket.writableLength > maxUnsentBytes)
        await once(socket, 'drain', { signal: AbortSignal.timeout(maxStalledMs) })
    }

    /** Reads the store to its end, new entries too: so nothing is queued for a slow follower. */
    async function catchUp(): Promise<void> {
      isLive = false
      let page: RevocationPage
      do {
        await flushed()
        hasNews = false
        page = await readPage(position)
        if (!open.has(close)) return
        send(page)
      } while (page.more || hasNews)
      isLive = true
    }

    try {
      const first = await readPage(position)
      reply.hijack()
      if (!open.has(close)) {
        socket.destroy()
        return reply
      }
      socket.writeHead(200, {
        ...(reply.getHeaders() as Record<string, string>),
        'content-type': 'text/event-stream; charset=utf-8',
        // nginx would buffer the events.
        'x-accel-buffering': 'no',
        // Kept alive for another request, it would hold up a shutdown.
        connection: 'close',
      })
      socket.write(`retry: ${retryMs}\n`)
      send(first)
      if (first.more || hasNews) void catchUp().catch(() => close(flushBeforeCloseMs.stalled))
      else isLive = true
      return reply
    } catch (error) {
      close(0)
      throw error
    }
  }

  return stream
}
