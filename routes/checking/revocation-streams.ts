import { once } from 'node:events'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { Refusal } from '../../errors.ts'
import type { RevocationPage } from '../../stores/store.ts'
import { textOf } from './revocation-pages.ts'

/** A follower that hears nothing for a few of these knows that it is cut off. */
const heartbeatMs = 5_000
/** A follower with more than this unsent is not sent what is new, and reads the store again when it has taken that. */
const mostUnsentBytes = 256 * 1024
/** One that takes nothing for so long is dropped, and comes again with its cursor. */
const mostUnreadMs = 5_000
/** Left to a follower to read what is on its way: to one that has lost its right, and to one that does not read, or when this process ends. */
const lastWordsMs = { dropped: 10_000, cut: 300 }
const mostStreams = { inAll: 1_000, ofClient: 200 }
const retryMs = 1_000

/** Streams of server-sent events (WHATWG HTML §9.2) that tell of revocations. Nothing is missed; an entry may come twice. */
export function createStreams(
  { revocations, clients, drain }: FastifyInstance,
  readPage: (position: string | undefined) => Promise<RevocationPage>,
) {
  const open = new Set<(lingerMs?: number) => void>()
  const openOf = new Map<string, number>()
  drain.signal.addEventListener('abort', () => {
    for (const close of open) close(lastWordsMs.cut)
  })

  function takePlace(clientId: string): void {
    if (drain.signal.aborted) throw new Refusal('draining', { headers: { 'retry-after': '1' } })
    const ofClient = openOf.get(clientId) ?? 0
    const reason =
      open.size >= mostStreams.inAll
        ? 'too many streams'
        : ofClient >= mostStreams.ofClient
          ? 'too many streams of this client'
          : undefined
    if (reason !== undefined) throw new Refusal('overloaded', { reason, headers: { 'retry-after': '5' } })
    openOf.set(clientId, ofClient + 1)
  }
  function leavePlace(clientId: string): void {
    const ofClient = (openOf.get(clientId) ?? 0) - 1
    if (ofClient > 0) openOf.set(clientId, ofClient)
    else openOf.delete(clientId)
  }

  /**
   * Begins a stream.
   *
   * @param since the cursor to begin at; undefined for everything in force
   * @throws {Refusal} 503 where there are too many, or this process ends; {StoreUnavailable}
   */
  async function stream(reply: FastifyReply, clientId: string, since: string | undefined): Promise<FastifyReply> {
    takePlace(clientId)
    const socket = reply.raw
    let position = since
    /** Whether it has been told all that this process knows, and is told of news as they come. */
    let isLive = false
    let hasNews = false

    const tell = (page: RevocationPage) => {
      position = page.cursor
      socket.write(textOf(page).event)
    }
    const endFollowing = revocations.follow((page) => {
      if (isLive && socket.writableLength <= mostUnsentBytes) tell(page)
      else {
        hasNews = true
        if (isLive) void catchUp().catch(() => close(lastWordsMs.cut))
      }
      // Whoever has lost the right is not told more; whoever still has it comes again.
      if (page.revocations.some(({ kind, id }) => kind === 'client' && id === clientId)) close()
    })
    const close = (lingerMs = lastWordsMs.dropped) => {
      if (!open.delete(close)) return
      leavePlace(clientId)
      endFollowing()
      clearInterval(heartbeat)
      if (!reply.sent) return
      socket.end()
      // Whoever does not read at all would hold the connection, and with it a shutdown.
      if (!socket.writableFinished) setTimeout(() => socket.destroy(), lingerMs).unref()
    }
    const beat = async () => {
      try {
        const client = await clients.find(clientId)
        if (client === undefined || client.disabledAt !== undefined || client.introspect === 'none') close()
        else if (isLive && revocations.isUpToDate)
          socket.write(`event: heartbeat\nid: ${revocations.cursor}\ndata: {}\n\n`)
      } catch {
        // The store does not answer: saying nothing tells the follower that there may be something it does not know.
      }
    }
    const heartbeat = setInterval(beat, heartbeatMs).unref()
    open.add(close)
    // From now on: it may go while the store is read, and nothing would tell of it later.
    socket.on('close', () => close())
    socket.on('error', () => close())

    /** Waits until the follower has taken what was sent. @throws when it does not */
    async function room(): Promise<void> {
      if (socket.writableLength > mostUnsentBytes)
        await once(socket, 'drain', { signal: AbortSignal.timeout(mostUnreadMs) })
    }

    /** Reads on in the store until there is nothing new. What comes meanwhile is read there too, and never kept for a slow follower. */
    async function catchUp(): Promise<void> {
      isLive = false
      let page: RevocationPage
      do {
        await room()
        hasNews = false
        page = await readPage(position)
        if (!open.has(close)) return
        tell(page)
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
        // nginx would keep the events until its buffer is full.
        'x-accel-buffering': 'no',
        // It ends with the stream, and is not kept for another request that a shutdown would have to wait for.
        connection: 'close',
      })
      socket.write(`retry: ${retryMs}\n`)
      tell(first)
      if (first.more || hasNews) void catchUp().catch(() => close(lastWordsMs.cut))
      else isLive = true
      return reply
    } catch (error) {
      close()
      throw error
    }
  }

  return stream
}
