import { setImmediate } from 'node:timers/promises'
import { type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import type { Revocation } from '../../domain/revocation.ts'
import { Timestamp, toTimestamp } from '../../schemas/parts.ts'
import type { RevocationPage } from '../../stores/store.ts'

export const RevocationEntry = Type.Object(
  {
    kind: Type.Union([
      Type.Literal('jti'),
      Type.Literal('sid'),
      Type.Literal('user'),
      Type.Literal('client'),
      Type.Literal('key'),
    ]),
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
    expires_at: Type.String({
      format: 'date-time',
      description: 'after this no such token is alive, and the entry can be forgotten',
    }),
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

/** A page as it is sent. */
export interface PageText {
  /** of `GET /revocations` */
  json: string
  /** of the stream; one buffer for all that follow */
  event: Buffer
}

const texts = new WeakMap<RevocationPage, PageText>()

/** The text of a page, made once however many are told of it. */
export function textOf(page: RevocationPage): PageText {
  const known = texts.get(page)
  if (known) return known
  const { revocations, cursor, more } = page
  const entries = `"revocations":${JSON.stringify(revocations.map(toEntry))}`
  const rest = more ? ',"more":true' : ''
  const text = {
    json: `{${entries},"cursor":${JSON.stringify(cursor)}${rest}}`,
    event: Buffer.from(`event: revocations\nid: ${cursor}\ndata: {${entries}${rest}}\n\n`),
  }
  texts.set(page, text)
  return text
}

interface Waiting {
  position: string | undefined
  resolve(page: RevocationPage): void
  reject(error: unknown): void
}

/**
 * Reads pages for those who are behind: one page in a turn of the event loop, whoever asks, so that everything else goes on
 * between them. Those who ask for the same page share it.
 */
export function createPages({
  revocations,
}: FastifyInstance): (position: string | undefined) => Promise<RevocationPage> {
  let waiting: Waiting[] = []
  let isReading = false

  async function read(): Promise<void> {
    isReading = true
    for (let first = waiting[0]; first; first = waiting[0]) {
      const { position } = first
      try {
        const page = await revocations.since(position)
        textOf(page)
        const answered = waiting.filter((one) => one.position === position)
        waiting = waiting.filter((one) => one.position !== position)
        for (const { resolve } of answered) resolve(page)
      } catch (error) {
        // For all of them: they would wait for the same store one after the other.
        for (const { reject } of waiting.splice(0)) reject(error)
      }
      await setImmediate()
    }
    isReading = false
  }

  return (position) =>
    new Promise((resolve, reject) => {
      waiting.push({ position, resolve, reject })
      if (!isReading) void read()
    })
}
