import type { Refusal } from '../../errors.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** the family of the errors of a route; `problem` when not set */
    errors?: ErrorFamily
  }
}

/** A shape of error responses. */
export interface Shape {
  mediaType: string
  headers?: Record<string, string>
  /** whether the body has a list of the members that were refused; otherwise the detail names them all */
  hasMembers: boolean
  /** @param requestId undefined where the body does not name the request */
  body(refusal: Refusal, requestId: string | undefined): string
}

/** RFC 9457, for all routes that name no other family. */
const problem: Shape = {
  mediaType: 'application/problem+json; charset=utf-8',
  hasMembers: true,
  body: ({ code, title, statusCode: status, detail, errors }, request_id) =>
    JSON.stringify({ type: `urn:latchkey:problem:${code}`, title, status, detail, request_id, errors }),
}

/** RFC 6749 §5.2, for the endpoints of OAuth. */
const oauth: Shape = {
  mediaType: 'application/json; charset=utf-8',
  headers: { pragma: 'no-cache' },
  hasMembers: false,
  body: ({ oauthCode: error, detail, members }, request_id) =>
    JSON.stringify({
      error,
      error_description: detail.replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/g, "'"),
      request_id,
      ...members,
    }),
}

/** Every family. A route names its own in `config.errors`. */
const families = { problem, oauth }

export type ErrorFamily = keyof typeof families

/** The shape of a family; RFC 9457 where none is named, as for paths without a route. */
export const shapeOf = (family: ErrorFamily = 'problem'): Shape => families[family]

/** The media type and the body of an error response. A failure that users ask about names its line in the log. */
export function renderError(refusal: Refusal, { mediaType, body }: Shape, requestId: string): [string, string] {
  const { statusCode } = refusal
  return [mediaType, body(refusal, statusCode >= 500 || statusCode === 401 ? requestId : undefined)]
}
