import { Type } from '@sinclair/typebox'

const requestId = Type.Optional(
  Type.String({ description: 'The x-request-id; with server errors and failed authentication' }),
)

const Problem = Type.Object(
  {
    type: Type.String({ examples: ['urn:latchkey:problem:username_taken'] }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    request_id: requestId,
    errors: Type.Optional(Type.Array(Type.Object({ pointer: Type.String(), detail: Type.String() }))),
  },
  { description: 'RFC 9457 problem details' },
)
const problem = {
  description: Problem.description,
  content: { 'application/problem+json': { schema: Problem } },
}

const OAuthError = Type.Object(
  { error: Type.String({ examples: ['invalid_grant'] }), error_description: Type.String(), request_id: requestId },
  { description: 'RFC 6749 §5.2 error' },
)

/** What is needed to sign in, by draft-ietf-oauth-first-party-apps; and every other error of the endpoint. */
export const ChallengeError = Type.Composite(
  [
    OAuthError,
    Type.Object({
      auth_session: Type.Optional(Type.String({ description: 'For the next step', examples: ['lka_…'] })),
      challenges: Type.Optional(
        Type.Array(Type.String(), { description: 'What may come next', examples: [['totp', 'recovery_code']] }),
      ),
      webauthn: Type.Optional(Type.Unsafe<object>({ type: 'object', additionalProperties: true })),
      totp: Type.Optional(Type.Object({ secret: Type.String(), uri: Type.String(), qr: Type.String() })),
    }),
  ],
  { description: '`insufficient_authorization`: more is needed; or an error of RFC 6749 §5.2' },
)

const each = (statuses: number[], response: object): Record<number, object> =>
  Object.fromEntries(statuses.map((status) => [status, response]))

/** The error responses of a route, for its `schema.response`: RFC 9457 problem details. */
export const problemResponses = (...statuses: number[]) => each(statuses, problem)
/** The error responses of an OAuth endpoint, for its `schema.response`: RFC 6749 §5.2. */
export const oauthResponses = (...statuses: number[]) => each(statuses, OAuthError)

/** The 204 of a route, for its `schema.response`. */
export const Done = Type.Null({ description: 'Done' })
