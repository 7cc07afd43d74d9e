import type { FastifyInstance } from 'fastify'
import { hasRepeatedMember } from '../../domain/strict-json.ts'
import { isClean, malformedBody, requireUtf8 } from './bodies.ts'

/** More than any body of this service needs. Each value costs time to check. */
const mostValues = 1_000

const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Lets the routes of a scope take JSON.
 *
 * Refuses bytes that are not UTF-8, repeated members, `__proto__` and `constructor.prototype` members, NUL and lone
 * surrogates in any text, and more than 1,000 values. An empty body counts as no body.
 */
export function acceptJson(scope: FastifyInstance): void {
  scope.addHook('preParsing', requireUtf8)
  const parseJson = scope.getDefaultJsonParser('error', 'error')
  scope.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    if (body.length === 0) return done(null, undefined)
    let text: string
    try {
      text = utf8.decode(body as Buffer)
    } catch {
      return done(malformedBody('The JSON is not valid UTF-8'))
    }
    parseJson(request, text, (error, value) => {
      if (error) return done(malformedBody('The body is not valid JSON'))
      if (hasRepeatedMember(text)) return done(malformedBody('A member of the JSON is repeated'))
      const fault = findFault(value)
      if (fault) return done(malformedBody(fault))
      done(null, value)
    })
  })
}

/** A loop, not a recursion: 16 KiB of `[` are eight thousand levels. */
function findFault(value: unknown): string | undefined {
  const rest = [value]
  for (let count = 0; rest.length > 0; count += 1) {
    if (count > mostValues) return 'The JSON holds too many values'
    const next = rest.pop()
    if (typeof next === 'string' && !isClean(next)) return 'The JSON holds a NUL or a lone surrogate'
    if (typeof next === 'object' && next !== null) rest.push(...Object.keys(next), ...Object.values(next))
  }
  return undefined
}
