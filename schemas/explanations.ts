import { type Static, Type } from '@sinclair/typebox'
import type { Check } from '../domain/checks.ts'
import type { ErrorCode } from '../errors.ts'
import { Timestamp, toTimestamp } from './parts.ts'

const textOrNumber = (description: string) => Type.Union([Type.String(), Type.Number()], { description })

/** Why a request was refused, as administrators see it. */
export const Explanation = Type.Object({
  request_id: Type.String(),
  at: Timestamp,
  route: Type.String({ examples: ['POST /token'] }),
  status: Type.Integer(),
  code: Type.String({ description: 'A code of docs/errors.md', examples: ['too_many_failures'] }),
  checks: Type.Array(
    Type.Object({
      name: Type.String({ examples: ['failures_from_network'] }),
      seen: textOrNumber('What was found'),
      limit: Type.Optional(textOrNumber('What it was held against')),
      setting: Type.Optional(Type.String({ description: 'That decides', examples: ['AUTH_THROTTLE'] })),
    }),
    { description: 'What was looked at, the check that decided first' },
  ),
})

export const toExplanation = ({
  requestId,
  at,
  route,
  status,
  code,
  checks,
}: {
  requestId: string
  at: number
  route: string
  status: number
  code: ErrorCode
  checks: Check[]
}): Static<typeof Explanation> => ({ request_id: requestId, at: toTimestamp(at), route, status, code, checks })
