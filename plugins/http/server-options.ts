import { randomUUID } from 'node:crypto'
import { maxHeaderSize, type Server, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyHttpOptions, FastifyInstance } from 'fastify'
import type { Config } from '../../config.ts'
import { type Check, checked } from '../../domain/checks.ts'
import { type ErrorCode, Refusal } from '../../errors.ts'
import { addressOfSocket } from './client-address.ts'
import { type Drain, drainingResponse } from './draining.ts'
import { renderError, shapeOf } from './error-families.ts'
import { commonHeaders, sendRefusal, toRefusal } from './errors.ts'

/*
 * What is set on the server itself, below routes and plugins. Node's parser answers some requests alone, without a body
 * and an id; here all of them are answered in the same shape.
 */

const maxBodyBytes = 16 * 1024
/** As long as a client_id may be; no id is longer. */
export const maxParamLength = 128
/** Time for the header of a request to arrive, and for all of it. A slower one holds a socket for nothing. */
const arrivalTimeoutMs = 15_000
/** How often within that time Node looks for requests that are late. */
const arrivalChecks = 15

/**
 * The options of Fastify and of Node's server.
 *
 * @param requestTimeoutMs in which a request has to arrive
 */
export function serverOptions({ AUTH_KEEP_ALIVE }: Config, drain: Drain, requestTimeoutMs = arrivalTimeoutMs) {
  return {
    genReqId: () => randomUUID(),
    bodyLimit: maxBodyBytes,
    requestTimeout: requestTimeoutMs,
    routerOptions: { maxParamLength },
    http: {
      // A request without Host is refused by `strict-http.ts`.
      requireHostHeader: false,
      ServerResponse: drainingResponse(drain),
      // Not longer than requestTimeout, or Node swaps the two.
      headersTimeout: requestTimeoutMs,
      connectionsCheckingInterval: requestTimeoutMs / arrivalChecks,
    },
    keepAliveTimeout: AUTH_KEEP_ALIVE.ms,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    // Nothing is guessed: a number stays a number, and an unknown member is refused.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false, allErrors: true } },
    clientErrorHandler,
    // Errors of the router, before any hook.
    frameworkErrors(error, request, reply) {
      reply.headers(commonHeaders(request.id))
      request.server.letReadAcrossOrigins(request, reply)
      sendRefusal(reply, request.url === '*' ? new Refusal('not_found') : toRefusal(error))
    },
  } satisfies FastifyHttpOptions<Server>
}

/** Sets what is no option: how requests are treated that Node would answer, or cut, by itself. */
export function prepareServer(app: FastifyInstance): void {
  const { server, routing } = app
  // RFC 9110 §10.1.1 lets an unknown expectation be ignored; Node would answer 417.
  server.on('checkExpectation', routing)
  // By default Node drops fields after the first 2,000 without a word. Their 16 KiB are limit enough.
  server.maxHeadersCount = 0
  // Tunnels are refused; Node would close the connection without a word.
  server.on('connect', (_request, socket: Socket) => {
    const checks = [checked('method', 'CONNECT', 'GET, HEAD')]
    endWith(app, socket, new Refusal('method_not_allowed', { checks, headers: { allow: 'GET, HEAD' } }))
  })
}

/** A request that Node's parser refuses never reaches Fastify. */
function clientErrorHandler(this: FastifyInstance, error: Error & { code?: string }, socket: Socket): void {
  const { code = '' } = error
  if (code === 'ECONNRESET' || socket.destroyed || !socket.writable) return void socket.destroy()
  const refused: Record<string, [ErrorCode, Check]> = {
    HPE_HEADER_OVERFLOW: ['header_too_large', checked('header_bytes', 'more', maxHeaderSize)],
    ERR_HTTP_REQUEST_TIMEOUT: [
      'request_timeout',
      checked('arrival_seconds', 'longer', this.server.requestTimeout / 1000),
    ],
  }
  const [known, failed] = refused[code] ?? ['malformed_request' as const, checked('message', code)]
  const requestId = endWith(this, socket, new Refusal(known, { checks: [failed] }))
  this.log.info({ reqId: requestId, reason: code }, 'a request could not be read')
}

/**
 * Writes a whole HTTP response by hand, for a socket without a request, and ends the connection.
 *
 * @returns the id of the request
 */
function endWith({ explanations }: FastifyInstance, socket: Socket, refusal: Refusal): string {
  const requestId = randomUUID()
  explanations.keep({ requestId, route: '(no request)', address: addressOfSocket(socket) }, refusal)
  const [mediaType, body] = renderError(refusal, shapeOf(), requestId)
  const fields = {
    'content-type': mediaType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-request-id': requestId,
    connection: 'close',
    ...refusal.headers,
  }
  socket.end(
    [
      `HTTP/1.1 ${refusal.statusCode} ${STATUS_CODES[refusal.statusCode]}`,
      ...Object.entries(fields).map(([name, value]) => `${name}: ${value}`),
      '',
      body,
    ].join('\r\n'),
  )
  return requestId
}
