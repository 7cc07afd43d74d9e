import { Type } from '@sinclair/typebox'

/** RFC 9457 problem details. */
export const Problem = Type.Object(
  {
    type: Type.String({ examples: ['urn:latchkey:problem:username_taken'] }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    request_id: Type.Optional(
      Type.String({ description: 'The x-request-id; with server errors and failed authentication' }),
    ),
    errors: Type.Optional(Type.Array(Type.Object({ pointer: Type.String(), detail: Type.String() }))),
  },
  { description: 'RFC 9457 problem details' },
)

/** RFC 6749 §5.2 error answer. */
export const OAuthError = Type.Object(
  {
    error: Type.String({ examples: ['invalid_grant'] }),
    error_description: Type.String(),
    request_id: Type.Optional(
      Type.String({ description: 'The x-request-id; with server errors and failed authentication' }),
    ),
  },
  { description: 'RFC 6749 §5.2 error' },
)

const problems: Record<number, object> = {}
const oauthErrors: Record<number, object> = {}
for (const status of [400, 401, 403, 404, 405, 409, 413, 415, 429, 500, 503]) {
  const description = Problem.description
  problems[status] = { description, content: { 'application/problem+json': { schema: Problem } } }
  oauthErrors[status] = OAuthError
}

const pick = (from: Record<number, object>, statuses: number[]) =>
  Object.fromEntries(statuses.map((status) => [status, from[status]]))

/** The error answers of a route, for its `schema.response`. */
export const problemResponses = (...statuses: number[]) => pick(problems, statuses)
export const oauthResponses = (...statuses: number[]) => pick(oauthErrors, statuses)
