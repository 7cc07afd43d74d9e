import formbody from '@fastify/formbody'
import type { FastifyInstance, preParsingHookHandler } from 'fastify'
import { Refusal } from '../../errors.ts'
import { hasRepeatedMember } from '../../verify/strict-json.ts'
import { parseMultipart } from './multipart.ts'

/*
 * Strict readers of bodies. Two readers that disagree about a body are how requests are smuggled past a check, so
 * whatever has two readings (a repeated field or member, bytes that are no UTF-8, a lone surrogate) is refused, never repaired.
 */

/** Nothing that is asked for here has so many; checking a body costs time for each. */
const mostValues = 1_000

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
    put(
      form,
      decodeFormText(equals < 0 ? pair : pair.slice(0, equals)),
      equals < 0 ? '' : decodeFormText(pair.slice(equals + 1)),
    )
  }
  return form
}

function put(form: Record<string, string>, name: string, value: string): void {
  if (!isClean(name) || !isClean(value)) throw malformed('The form holds a NUL')
  if (name in form)
    throw malformed(/^[a-z_]{1,32}$/.test(name) ? `The parameter ${name} is repeated` : 'A parameter is repeated')
  form[name] = value
}

function decodeFormText(text: string): string {
  try {
    return /[%+]/.test(text) ? decodeURIComponent(text.replaceAll('+', ' ')) : text
  } catch {
    throw malformed('The form has a bad percent-encoding')
  }
}

const charset = /;[ \t]*charset=[ \t]*"?([^\s;"]*)/i

/** A preParsing hook: a body of another charset would be read for what it is not. */
const requireUtf8: preParsingHookHandler = ({ headers }, _reply, _payload, done) => {
  const named = charset.exec(headers['content-type'] ?? '')?.[1]
  if (named === undefined || /^(utf-?8|us-ascii)$/i.test(named)) return done()
  done(
    new Refusal('unsupported_media_type', {
      detail: 'Bodies are read as UTF-8, and this one is said to be of another charset',
    }),
  )
}

/** Lets the routes of this scope take forms. */
export async function acceptForms(scope: FastifyInstance): Promise<void> {
  scope.addHook('preParsing', requireUtf8)
  await scope.register(formbody, { parser: parseForm })
}

/** Lets the routes of this scope take forms as `multipart/form-data` too, of fields and without files. */
export function acceptMultipart(scope: FastifyInstance): void {
  scope.addContentTypeParser('multipart/form-data', { parseAs: 'buffer' }, ({ headers }, body, done) => {
    const form: Record<string, string> = Object.create(null)
    try {
      for (const [name, value] of parseMultipart(body as Buffer, headers['content-type'] ?? '')) put(form, name, value)
    } catch (error) {
      return done(error instanceof SyntaxError ? malformed(error.message) : (error as Error))
    }
    done(null, form)
  })
}

/**
 * Lets the routes of this scope take JSON objects.
 *
 * Refuses bytes that are no UTF-8, members that are there twice, `__proto__` and `constructor.prototype` members, NUL and lone
 * surrogates in any text, and more values than anything here has. An empty body is none.
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
      return done(malformed('The JSON is not valid UTF-8'))
    }
    parseJson(request, text, (error, value) => {
      if (error) return done(malformed('The body is not valid JSON'))
      if (hasRepeatedMember(text)) return done(malformed('A member of the JSON is repeated'))
      const fault = whatIsWrongInside(value)
      if (fault) return done(malformed(fault))
      done(null, value)
    })
  })
}

/** A loop and not a recursion: 16 KiB of `[` are eight thousand levels. */
function whatIsWrongInside(value: unknown): string | undefined {
  const rest = [value]
  for (let count = 0; rest.length > 0; count += 1) {
    if (count > mostValues) return 'The JSON holds too many values'
    const next = rest.pop()
    if (typeof next === 'string' && !isClean(next)) return 'The JSON holds a NUL or a lone surrogate'
    if (typeof next === 'object' && next !== null) rest.push(...Object.keys(next), ...Object.values(next))
  }
  return undefined
}

/** Lets the routes of this scope be called with any body, which nobody reads (a client library's empty `{}`). */
export function ignoreBodies(scope: FastifyInstance): void {
  scope.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, _body, done) => done(null, undefined))
}
