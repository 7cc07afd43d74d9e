import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { type ErrorCode, Refusal } from '../../errors.ts'
import { StoreUnavailable } from '../../stores/store.ts'
import { invalid } from './validation.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** which shape the errors of a route have: RFC 6749 §5.2, or (when not set) RFC 9457 */
    errors?: 'oauth'
  }
}

/** What Fastify's own errors mean here. */
const fastifyErrors: Record<string, ErrorCode> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_INVALID_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_BODY_TOO_LARGE: 'body_too_large',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'malformed_body',
  FST_ERR_CTP_INVALID_JSON_BODY: 'malformed_body',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'malformed_body',
  FST_ERR_BAD_URL: 'malformed_url',
  FST_ERR_ASYNC_CONSTRAINT: 'malformed_url',
  FST_ERR_MAX_PARAM_LENGTH: 'not_found',
}

/** What a status means that somebody else chose, such as the plugin that serves the files of /docs. */
const byStatus: Record<number, ErrorCode> = {
  400: 'malformed_request',
  404: 'not_found',
  408: 'request_timeout',
  413: 'body_too_large',
  415: 'unsupported_media_type',
  431: 'header_too_large',
}

/**
 * Turns anything thrown into the refusal to answer with. A refusal of somebody else's keeps its status and loses its words, which may
 * repeat what the client sent. What nobody foresaw is a 500 that says nothing.
 */
export function toRefusal(error: unknown, request?: FastifyRequest): Refusal {
  if (error instanceof Refusal) return error
  if (error instanceof StoreUnavailable) {
    return new Refusal('store_unavailable', {
      headers: { 'retry-after': '1' },
      reason: 'the store did not answer',
      cause: error.cause,
    })
  }
  const { code = '', validation, validationContext, statusCode: status = 500 } = error as FastifyError
  if (validation) return invalid(validation, validationContext, request?.routeOptions.config.errors)
  const known = fastifyErrors[code] ?? byStatus[status]
  if (known === 'unsupported_media_type' && request) return unsupportedMediaType(request)
  if (known) return new Refusal(known, { reason: code })
  if (status >= 400 && status < 500) return new Refusal('refused', { status, reason: `${code} ${status}` })
  return new Refusal('internal_error', { cause: error, reason: 'unforeseen' })
}

/** A media type as it may be repeated: nothing of its parameters, and nothing that is none. */
const mediaType = /^[A-Za-z0-9!#$&^_.+-]{1,40}\/[A-Za-z0-9!#$&^_.+-]{1,60}(?=[ \t]*(;|$))/

/** Names what came and what the route takes, also in the field `Accept` (RFC 9110 §12.5.1). */
function unsupportedMediaType({ headers, routeOptions }: FastifyRequest): Refusal {
  const { consumes, body } = (routeOptions.schema ?? {}) as { consumes?: string[]; body?: { content?: object } }
  const taken = consumes ?? (body?.content ? Object.keys(body.content) : body ? ['application/json'] : [])
  const came = headers['content-type']
  const what =
    came === undefined || came === ''
      ? 'a body without a Content-Type'
      : (mediaType.exec(came.trim())?.[0].toLowerCase() ?? 'something else')
  if (taken.length === 0)
    return new Refusal('unsupported_media_type', { detail: 'The Content-Type is not a media type' })
  return new Refusal('unsupported_media_type', {
    detail: `This route takes ${taken.join(' or ')}, and what came is ${what}`,
    headers: { accept: taken.join(', ') },
  })
}

/** The body and its media type, in the shape of the family. */
export function errorBody(
  refusal: Refusal,
  family: 'oauth' | undefined,
  requestId: string,
): [mediaType: string, body: object] {
  const { statusCode, oauthCode, code, title, detail, errors } = refusal
  /** a failure that people will ask about, so that it names the line in the log */
  const id = (statusCode >= 500 || statusCode === 401) && { request_id: requestId }
  if (family === 'oauth') {
    return [
      'application/json; charset=utf-8',
      {
        error: oauthCode,
        error_description: detail.replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/g, "'"),
        ...id,
      },
    ]
  }
  return [
    'application/problem+json; charset=utf-8',
    {
      type: `urn:latchkey:problem:${code}`,
      title,
      status: statusCode,
      detail,
      ...id,
      ...(errors && { errors }),
    },
  ]
}

function log(request: FastifyRequest, { statusCode, code, reason, detail, cause }: Refusal): void {
  const line = { status: statusCode, code, reason: reason ?? detail, ...(cause !== undefined && { err: cause }) }
  if (statusCode >= 500) request.log.error(line, 'request failed')
  else if (statusCode === 401 || statusCode === 403 || statusCode === 429) request.log.warn(line, 'request refused')
  else request.log.info(line, 'request refused')
}

/** Answers with a refusal, in the family's shape, and writes the line that says why. */
export function sendRefusal(reply: FastifyReply, refusal: Refusal, family: 'oauth' | undefined): FastifyReply {
  log(reply.request, refusal)
  const [mediaType, body] = errorBody(refusal, family, reply.request.id)
  return reply
    .code(refusal.statusCode)
    .headers({ 'cache-control': 'no-store', ...(family && { pragma: 'no-cache' }), ...refusal.headers })
    .type(mediaType)
    .serializer(JSON.stringify)
    .send(body)
}

/** What every answer has. Nearly every one holds a token or personal data; the few that may be cached say so themselves. */
export const commonHeaders = (requestId: string) => ({
  'x-request-id': requestId,
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
})

/** Gives every failure one shape for each family of endpoints, by the table in `errors.ts`, and every answer its `x-request-id`. */
export default fp(
  async (app: FastifyInstance) => {
    app.addHook('onRequest', (request, reply, done) => {
      reply.headers(commonHeaders(request.id))
      done()
    })

    // Of a body that is not there Fastify knows no media type, and so no schema among those of `content`.
    app.addHook('onRoute', (route) => {
      const body = route.schema?.body as { content?: object } | undefined
      if (body?.content) route.preValidation = [requireBody, ...[route.preValidation ?? []].flat()]
    })

    // A plugin of Fastify's that serves files finds out only later that there is none.
    app.setNotFoundHandler((_request, reply) => sendRefusal(reply, new Refusal('not_found'), undefined))
    app.setErrorHandler((error, request, reply) => {
      sendRefusal(reply, toRefusal(error, request), request.routeOptions.config.errors)
    })
  },
  { name: 'errors' },
)

async function requireBody({ body }: FastifyRequest): Promise<void> {
  if (body === undefined) throw new Refusal('invalid_request', { detail: 'The body is missing' })
}

/**
 * Answers what Node's HTTP parser refused before there was a request: it has the same shape and carries an id too.
 *
 * @param fields more of the header
 * @returns the whole HTTP answer, as text
 */
export function rawRefusal(code: ErrorCode, requestId: string, ...fields: string[]): string {
  const refusal = new Refusal(code)
  const [mediaType, body] = errorBody(refusal, undefined, requestId)
  const text = JSON.stringify(body)
  return [
    `HTTP/1.1 ${refusal.statusCode} ${STATUS_CODES[refusal.statusCode]}`,
    `content-type: ${mediaType}`,
    `content-length: ${Buffer.byteLength(text)}`,
    'cache-control: no-store',
    `x-request-id: ${requestId}`,
    'connection: close',
    ...fields,
    '',
    text,
  ].join('\r\n')
}
