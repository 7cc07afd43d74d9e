import formbody from '@fastify/formbody'
import type { FastifyInstance } from 'fastify'
import { Refusal } from '../errors.ts'

/*
 * Strict readers of bodies. Two readers that disagree about a body are how requests are smuggled past a check, so
 * whatever has two readings (a repeated form field, bytes that are no UTF-8, a lone surrogate) is refused, never repaired.
 */

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** NUL ends strings in C, and a lone surrogate becomes U+FFFD as soon as it is hashed or stored: two texts would be one. */
const isClean = (text: string) => text.isWellFormed() && !text.includes('\0')

const malformed = (detail: string) => new Refusal('malformed_body', { detail })

/**
 * Reads `application/x-www-form-urlencoded` (WHATWG URL §5.1), strictly.
 *
 * @throws {Refusal} for a bad escape, bytes that are no UTF-8, NUL, or a repeated field (RFC 6749 §3.2)
 */
export function parseForm(body: string): Record<string, string> {
  const form: Record<string, string> = Object.create(null)
  // Bytes that are no UTF-8 have become U+FFFD by now.
  if (body.includes('\ufffd')) throw malformed('The form is not valid UTF-8')
  for (const pair of body.split('&')) {
    if (pair === '') continue
    const equals = pair.indexOf('=')
    const name = decodeFormText(equals < 0 ? pair : pair.slice(0, equals))
    const value = equals < 0 ? '' : decodeFormText(pair.slice(equals + 1))
    if (name in form) throw malformed(/^[a-z_]{1,32}$/.test(name) ? `The parameter ${name} is repeated` : 'A parameter is repeated')
    form[name] = value
  }
  return form
}

function decodeFormText(text: string): string {
  let decoded: string
  try {
    decoded = /[%+]/.test(text) ? decodeURIComponent(text.replaceAll('+', ' ')) : text
  } catch {
    throw malformed('The form has a bad percent-encoding')
  }
  if (!isClean(decoded)) throw malformed('The form holds a NUL')
  return decoded
}

/** Lets the routes of this scope take forms. */
export async function acceptForms(scope: FastifyInstance): Promise<void> {
  await scope.register(formbody, { parser: parseForm })
}

/**
 * Lets the routes of this scope take JSON objects.
 *
 * Refuses bytes that are no UTF-8, `__proto__` and `constructor.prototype` members, NUL and lone surrogates in any text.
 */
export function acceptJson(scope: FastifyInstance): void {
  const parseJson = scope.getDefaultJsonParser('error', 'error')
  scope.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    let text: string
    try {
      text = utf8.decode(body as Buffer)
    } catch {
      return done(malformed('The JSON is not valid UTF-8'))
    }
    parseJson(request, text, (error, value) => {
      if (error) return done(malformed('The body is not valid JSON'))
      if (!hasCleanTexts(value)) return done(malformed('The JSON holds a NUL or a lone surrogate'))
      done(null, value)
    })
  })
}

/** A loop and not a recursion: 16 KiB of `[` are eight thousand levels. */
function hasCleanTexts(value: unknown): boolean {
  const rest = [value]
  while (rest.length > 0) {
    const next = rest.pop()
    if (typeof next === 'string' && !isClean(next)) return false
    if (typeof next === 'object' && next !== null) rest.push(...Object.keys(next), ...Object.values(next))
  }
  return true
}

/** Lets the routes of this scope be called with any body, which nobody reads (a client library's empty `{}`). */
export function ignoreBodies(scope: FastifyInstance): void {
  scope.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, _body, done) => done(null, undefined))
}
