import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { type ErrorCode, type InvalidMember, Refusal } from '../errors.ts'
import { StoreUnavailable } from '../stores/store.ts'

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

/** Turns anything thrown into the refusal to answer with. What nobody foresaw is a 500 that says nothing. */
export function toRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error
  if (error instanceof StoreUnavailable) {
    return new Refusal('store_unavailable', { headers: { 'retry-after': '1' }, reason: 'the store did not answer', cause: error.cause })
  }
  const { code = '', validation, validationContext, statusCode } = error as FastifyError
  if (validation) {
    const errors = validation.map(({ instancePath, keyword, params, message = 'is not valid' }): InvalidMember => {
      if (keyword === 'additionalProperties') {
        return { pointer: `${instancePath}${unknownMember(String(params['additionalProperty']))}`, detail: 'is not known here' }
      }
      if (keyword === 'required') return { pointer: `${instancePath}/${params['missingProperty']}`, detail: 'is required' }
      return { pointer: instancePath, detail: message }
    })
    const detail = errors.map(({ pointer, detail }) => `${pointer || `the ${validationContext ?? 'body'}`} ${detail}`).join(', ')
    return new Refusal('invalid_request', { detail, errors })
  }
  const known = fastifyErrors[code]
  // By its code and not its message, which repeats what the client sent.
  if (known) return new Refusal(known, { reason: code })
  if (statusCode === 400) return new Refusal('malformed_body', { reason: code })
  return new Refusal('internal_error', { cause: error, reason: 'unforeseen' })
}

/** The pointer (RFC 6901 §3) of a member that nobody asked for. Its name may be a secret put in the wrong place, so only a short word is repeated. */
const unknownMember = (name: string) => (/^[\x21-\x7e]{1,32}$/.test(name) ? `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}` : '')

/** The body and its media type, in the shape of the family. */
export function errorBody(refusal: Refusal, family: 'oauth' | undefined, requestId: string): [mediaType: string, body: object] {
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

/** A path that has routes, for telling 405 from 404. */
interface KnownPath {
  matches: RegExp
  methods: Set<string>
  family: 'oauth' | undefined
}

/**
 * Gives every failure one shape for each family of endpoints: 404 and 405 with `Allow` before anything is read of the
 * body, errors of Fastify and of its parsers by the table in `errors.ts`, and `x-request-id` on every answer.
 */
export default fp(
  async (app: FastifyInstance) => {
    const paths = new Map<string, KnownPath>()

    app.addHook('onRoute', ({ url, method, config }) => {
      const known = paths.get(url) ?? {
        matches: new RegExp(
          `^${url
            .replace(/[.+?^$()|[\]\\]/g, '\\$&')
            .replace(/:[^/]+/g, '[^/]+')
            .replace('*', '.*')}$`,
        ),
        methods: new Set(),
        family: config?.errors,
      }
      for (const name of [method].flat()) known.methods.add(name)
      paths.set(url, known)
    })

    app.addHook('onRequest', async (request, reply) => {
      // Nearly every answer holds a token or personal data; the few that may be cached say so themselves.
      reply.headers({ 'x-request-id': request.id, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
      // RFC 9112 §3.2
      if (request.headers.host === undefined && request.raw.httpVersion === '1.1') {
        throw new Refusal('invalid_request', { detail: 'The header field Host is missing' })
      }
      if (!request.is404) return
      const [path = ''] = request.url.split('?', 1)
      const known = [...paths.values()].find(({ matches }) => matches.test(path))
      if (!known) throw new Refusal('not_found')
      sendRefusal(reply, new Refusal('method_not_allowed', { headers: { allow: [...known.methods].join(', ') } }), known.family)
    })

    // A plugin of Fastify's that serves files finds out only later that there is none.
    app.setNotFoundHandler((_request, reply) => sendRefusal(reply, new Refusal('not_found'), undefined))
    app.setErrorHandler((error, request, reply) => {
      sendRefusal(reply, toRefusal(error), request.routeOptions.config.errors)
    })
  },
  { name: 'errors' },
)

/**
 * Answers what Node's HTTP parser refused before there was a request: it has the same shape and carries an id too.
 *
 * @returns the whole HTTP answer, as text
 */
export function rawRefusal(code: ErrorCode, requestId: string): string {
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
    '',
    text,
  ].join('\r\n')
}
