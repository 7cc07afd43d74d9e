import { type Static, Type } from '@sinclair/typebox'
import { type Position, stateOf } from '../domain/webhook.ts'
import { Timestamp, toTimestamp } from './parts.ts'

/** An endpoint of AUTH_WEBHOOKS_FILE as administrators see it. */
export const AdminWebhook = Type.Object({
  id: Type.String({ description: 'Of its URL' }),
  url: Type.String({ description: 'Without its query, which may be a secret' }),
  events: Type.Optional(Type.Array(Type.String(), { description: 'Absent where it is told of all' })),
  secrets: Type.Integer({ description: 'How many it is signed with' }),
  state: Type.Union([Type.Literal('new'), Type.Literal('active'), Type.Literal('retrying'), Type.Literal('disabled')], {
    description: '`new` until a service was started with it',
  }),
  behind_seconds: Type.Integer({ description: 'How long an event has waited for it; 0 where it has had all' }),
  delivered_at: Type.Optional(Timestamp),
  failure: Type.Optional(
    Type.Object(
      { reason: Type.String(), tries: Type.Integer(), next_try_at: Type.Optional(Timestamp) },
      { description: 'How the event that it is to have next failed' },
    ),
  ),
  disabled_at: Type.Optional(Timestamp),
})
export type AdminWebhook = Static<typeof AdminWebhook>

/** @param look how far it has been told; undefined where no service was started with it yet */
export function toWebhook(
  { id, url, events, secrets }: { id: string; url: URL; events: string[] | undefined; secrets: unknown[] },
  look: { position: Position; behindMs: number } | undefined,
): AdminWebhook {
  const { failing, failures, deliveredAt, disabledAt } = look?.position ?? { failures: 0 }
  return {
    id,
    url: url.origin + url.pathname,
    ...(events && { events }),
    secrets: secrets.length,
    state: look ? stateOf(look.position) : 'new',
    behind_seconds: Math.floor((look?.behindMs ?? 0) / 1000),
    ...(deliveredAt !== undefined && { delivered_at: toTimestamp(deliveredAt) }),
    ...(failing && {
      failure: {
        reason: failing.why,
        tries: failures,
        ...(disabledAt === undefined && { next_try_at: toTimestamp(failing.retryAt) }),
      },
    }),
    ...(disabledAt !== undefined && { disabled_at: toTimestamp(disabledAt) }),
  }
}
