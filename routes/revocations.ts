import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import { Refusal } from '../errors.ts'
import { ignoreBodies } from '../plugins/body-parsers.ts'
import { withClient } from '../plugins/openapi.ts'
import { problemAnswers } from '../schemas/errors.ts'
import { Timestamp, toTimestamp } from '../schemas/parts.ts'
import type { Revocation } from '../stores/store.ts'

const RevocationEntry = Type.Object(
  {
    kind: Type.Union([Type.Literal('jti'), Type.Literal('sid'), Type.Literal('user'), Type.Literal('client'), Type.Literal('key')]),
    id: Type.String({
      description:
        'the `jti`, `sid`, `sub` or `client_id` of the tokens that are refused; the `kid` of a `key` that was withdrawn: drop it, and read the JWKS again',
    }),
    generation: Type.Optional(
      Type.Integer({
        description:
          'of a user or client: only tokens of earlier generations are refused; a `jti` is `<user>.<client>.<random>` with both generations',
      }),
    ),
    except_sid: Type.Optional(Type.String({ description: 'of a user: the session whose tokens stay good' })),
    revoked_at: Timestamp,
    expires_at: Type.String({ format: 'date-time', description: 'after this no such token is alive, and the entry can be forgotten' }),
  },
  { description: 'Which access tokens are refused from now on' },
)

function toEntry({ kind, id, revokedAt, expiresAt, ...rest }: Revocation): Static<typeof RevocationEntry> {
  const { generation, exceptSessionId } = rest as { generation?: number; exceptSessionId?: string }
  return {
    kind,
    id,
    ...(generation !== undefined && { generation }),
    ...(exceptSessionId !== undefined && { except_sid: exceptSessionId }),
    revoked_at: toTimestamp(revokedAt),
    expires_at: toTimestamp(expiresAt),
  }
}

/** A follower that hears nothing for a few of these knows that it is cut off. */
const heartbeatMs = 5_000
/** A follower that reads so slowly is dropped, and comes again with its cursor. */
const mostUnsentBytes = 1024 * 1024
/** Left to a follower to read what is on its way: to a slow one that is dropped, and when this process ends. */
const lastWordsMs = { dropped: 10_000, closing: 300 }
const mostStreams = 1_000
const retryMs = 1_000

/**
 * What was revoked, for services that check access tokens by key alone: as a list since a cursor, or as a stream that goes on
 * (server-sent events, WHATWG HTML §9.2). Nothing is missed; an entry may come twice.
 */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { clientAuthentication, revocations, clients, drain } = app
  ignoreBodies(app)
  const open = new Set<(lingerMs?: number) => void>()
  drain.signal.addEventListener('abort', () => {
    for (const close of open) close(lastWordsMs.closing)
  })

  async function stream(reply: FastifyReply, clientId: string, since: string | undefined): Promise<FastifyReply> {
    if (drain.signal.aborted) throw new Refusal('draining', { headers: { 'retry-after': '1' } })
    if (open.size >= mostStreams) throw new Refusal('overloaded', { reason: 'too many streams', headers: { 'retry-after': '5' } })
    /** What comes while the store is read has to wait for what was before. */
    let waiting: [Revocation[], string][] | undefined = []
    const socket = reply.raw
    const send = (event: string, id: string | undefined, data: object) => {
      if (!open.has(close)) return
      if (socket.writableLength > mostUnsentBytes) return close()
      socket.write(`event: ${event}\n${id === undefined ? '' : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`)
    }
    const tell = (entries: Revocation[], cursor: string) => send('revocations', cursor, { revocations: entries.map(toEntry) })
    const hear = (entries: Revocation[], cursor: string) => {
      if (waiting) return void waiting.push([entries, cursor])
      tell(entries, cursor)
      // Whoever has lost the right is not told more; whoever still has it comes again.
      if (entries.some(({ kind, id }) => kind === 'client' && id === clientId)) close()
    }
    const endFollowing = revocations.follow(hear)
    const close = (lingerMs = lastWordsMs.dropped) => {
      if (!open.delete(close)) return
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
        else if (!waiting && revocations.isUpToDate) send('heartbeat', revocations.cursor, {})
      } catch {
        // The store does not answer: saying nothing tells the follower that there may be something it does not know.
      }
    }
    const heartbeat = setInterval(beat, heartbeatMs).unref()
    open.add(close)
    // From now on: it may go while the store is read, and nothing would tell of it later.
    socket.on('close', () => close())
    socket.on('error', () => close())

    try {
      const { revocations: entries, cursor } = await revocations.since(since)
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
      tell(entries, cursor)
      const missed = waiting
      waiting = undefined
      for (const [entries, cursor] of missed) hear(entries, cursor)
      return reply
    } catch (error) {
      close()
      throw error
    }
  }

  app.get(
    '/revocations',
    {
      schema: {
        operationId: 'listRevocations',
        summary: 'Follow what is revoked',
        description:
          'For confidential clients with the introspection right, by HTTP Basic. With `Accept: text/event-stream` a stream: events `revocations` (the first at once) and `heartbeat` every 5 s while this process is up to date, each with the cursor as its id.',
        tags: ['checking'],
        security: withClient,
        produces: ['application/json', 'text/event-stream'],
        querystring: Type.Object(
          {
            since: Type.Optional(
              Type.String({
                pattern: '\\S',
                maxLength: 256,
                description: 'the `cursor` of the answer before; without one, all that is in force',
              }),
            ),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({ revocations: Type.Array(RevocationEntry), cursor: Type.String() }),
          ...problemAnswers(400, 401, 403, 429, 503),
        },
      },
    },
    async (request, reply) => {
      const client = await clientAuthentication.introspector(request, {})
      const { accept = '', 'last-event-id': lastEventId } = request.headers
      const since = (typeof lastEventId === 'string' && lastEventId) || request.query.since
      if (request.method === 'GET' && /(^|,) *text\/event-stream *(;|,|$)/.test(accept)) return stream(reply, client.id, since)
      const { revocations: entries, cursor } = await revocations.since(since)
      return { revocations: entries.map(toEntry), cursor }
    },
  )
}

export default plugin
