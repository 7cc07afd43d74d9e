import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { checked } from '../../domain/checks.ts'
import { type ErrorCode, Refusal } from '../../errors.ts'
import { StoreUnavailable } from '../../stores/store.ts'
import { routeOf } from '../run/explanations.ts'
import { type ErrorFamily, renderError, shapeOf } from './error-families.ts'
import { invalid } from './validation.ts'

declare module 'fastify' {
  interface FastifyReply {
    /** the code of the refusal that was answered with */
    refused: ErrorCode | undefined
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

/** What the status of another plugin's error means, such as of the one that serves the files of /docs. */
const byStatus: Record<number, ErrorCode> = {
  400: 'malformed_request',
  404: 'not_found',
  408: 'request_timeout',
  413: 'body_too_large',
  415: 'unsupported_media_type',
  431: 'header_too_large',
}

/**
 * Turns anything thrown into the refusal to answer with. The error of another plugin keeps its status and loses its
 * message, which may repeat what the client sent. An unforeseen error is a 500 that says nothing.
 */
export function toRefusal(error: unknown, request?: FastifyRequest): Refusal {
  if (error instanceof Refusal) return error
  if (error instanceof StoreUnavailable) {
    const { reason, cause } = error
    const setting = request?.server.config.DATABASE_URL ? 'DATABASE_URL' : 'AUTH_DATA_DIR'
    const checks = [{ ...checked('store', reason), setting }]
    return new Refusal('store_unavailable', { headers: { 'retry-after': '1' }, reason, checks, cause })
  }
  const { code = '', validation, validationContext, statusCode: status = 500 } = error as FastifyError
  if (validation) return invalid(validation, validationContext, shapeOf(request?.routeOptions.config.errors))
  const known = fastifyErrors[code] ?? byStatus[status]
  if (known === 'body_too_large' && request) return bodyTooLarge(request)
  if (known === 'unsupported_media_type' && request) return unsupportedMediaType(request)
  if (known) return new Refusal(known, { reason: code })
  if (status >= 400 && status < 500) return new Refusal('refused', { status, reason: `${code} ${status}` })
  const { name = 'Error' } = error as Error
  // The words of an error may hold anything; the log has them.
  const seen = `${name}${code && ` ${code}`}, which nobody foresaw: see the log`
  return new Refusal('internal_error', { cause: error, reason: 'unforeseen', checks: [checked('program', seen)] })
}

const bodyTooLarge = ({ headers, routeOptions: { bodyLimit } }: FastifyRequest) =>
  new Refusal('body_too_large', {
    checks: [checked('body_bytes', Number(headers['content-length']) || 'more', bodyLimit)],
  })

/** A media type that is safe to repeat: without its parameters, and only if it is one. */
const mediaType = /^[A-Za-z0-9!#$&^_.+-]{1,40}\/[A-Za-z0-9!#$&^_.+-]{1,60}(?=[ \t]*(;|$))/

/** Names the type that came and those that the route takes, these also in the field `Accept` (RFC 9110 §12.5.1). */
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
    checks: [checked('content_type', what, taken.join(', '))],
    headers: { accept: taken.join(', ') },
  })
}

function log(request: FastifyRequest, { statusCode, code, reason, detail, cause }: Refusal): void {
  const line = { status: statusCode, code, reason: reason ?? detail, ...(cause !== undefined && { err: cause }) }
  // At each stop the proxy asks for /readyz a few times more.
  if (code === 'draining') request.log.info(line, 'request refused')
  else if (statusCode >= 500) request.log.error(line, 'request failed')
  else if (statusCode === 401 || statusCode === 403 || statusCode === 429) request.log.warn(line, 'request refused')
  else request.log.info(line, 'request refused')
}

/** Logs why something was refused, and keeps it for who may ask. Whoever answers by a body of their own calls it. */
export function noteRefusal(reply: FastifyReply, refusal: Refusal): void {
  const { request } = reply
  log(request, refusal)
  reply.refused = refusal.code
  request.server.explanations.keep(
    { requestId: request.id, route: routeOf(request), address: request.address },
    refusal,
  )
}

/** Answers with a refusal, in the shape of the family; logs the reason, and keeps it for who may ask. */
export function sendRefusal(reply: FastifyReply, refusal: Refusal, family?: ErrorFamily): FastifyReply {
  noteRefusal(reply, refusal)
  const shape = shapeOf(family)
  const [mediaType, body] = renderError(refusal, shape, reply.request.id)
  return reply
    .code(refusal.statusCode)
    .headers({ 'cache-control': 'no-store', ...shape.headers, ...refusal.headers })
    .type(mediaType)
    .send(body)
}

/**
 * The fields of every response. Nearly all hold a token or personal data; the few that may be cached say so themselves.
 */
export const commonHeaders = (requestId: string) => ({
  'x-request-id': requestId,
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
})

/** Gives every failure a code of `errors.ts` and the shape of its family, and every response its `x-request-id`. */
export default fp(
  async (app: FastifyInstance) => {
    app.decorateReply('refused', undefined)
    app.addHook('onRequest', (request, reply, done) => {
      reply.headers(commonHeaders(request.id))
      done()
    })

    // Fastify finds the schema in `content` by the media type, and so none for a body that is missing.
    app.addHook('onRoute', (route) => {
      const body = route.schema?.body as { content?: object } | undefined
      if (body?.content) route.preValidation = [requireBody, ...[route.preValidation ?? []].flat()]
    })

    // Called by `@fastify/static` for a file that is missing; other paths without a route end in `known-paths.ts`.
    app.setNotFoundHandler((_request, reply) => sendRefusal(reply, new Refusal('not_found')))
    app.setErrorHandler((error, request, reply) => {
      sendRefusal(reply, toRefusal(error, request), request.routeOptions.config.errors)
    })
  },
  { name: 'errors' },
)

async function requireBody({ body }: FastifyRequest): Promise<void> {
  if (body === undefined) throw new Refusal('invalid_request', { detail: 'The body is missing' })
}
