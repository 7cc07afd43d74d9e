import type { FastifyInstance, FastifyRequest, preParsingHookHandler } from 'fastify'
import { Refusal } from '../../errors.ts'

/*
 * Rules for every body. Two readers that disagree about a body let a request pass a check that reads it differently. So
 * anything with two readings (a repeated field, bytes that are not UTF-8, a lone surrogate) is refused, never repaired.
 */

export const malformedBody = (detail: string): Refusal => new Refusal('malformed_body', { detail })

/** NUL ends strings in C, and a lone surrogate becomes U+FFFD when it is hashed or stored: two texts would be one. */
export const isClean = (text: string): boolean => text.isWellFormed() && !text.includes('\0')

const charset = /;[ \t]*charset=[ \t]*"?([^\s;"]*)/i

/** A preParsing hook. Refuses a body of another charset, which would be decoded to a different text. */
export const requireUtf8: preParsingHookHandler = ({ headers }, _reply, _payload, done) => {
  const { 'content-type': type } = headers
  // Nearly always nothing follows the type.
  const named = type?.includes(';') ? charset.exec(type)?.[1] : undefined
  if (named === undefined || /^(utf-?8|us-ascii)$/i.test(named)) return done()
  done(
    new Refusal('unsupported_media_type', {
      detail: 'Bodies are read as UTF-8, and this one is said to be of another charset',
    }),
  )
}

/** Lets the routes of a scope be called with any body, and discards it: client libraries send an empty `{}`. */
export function ignoreBodies(scope: FastifyInstance): void {
  scope.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, _body, done) => done(null, undefined))
}

/** A preValidation hook for a route whose body may be left out. */
export async function allowNoBody(request: FastifyRequest): Promise<void> {
  // A null that was sent is no object.
  if (request.body === undefined) request.body = {}
}
