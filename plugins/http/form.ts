import formbody from '@fastify/formbody'
import type { FastifyInstance } from 'fastify'
import { isClean, malformedBody, requireUtf8 } from './bodies.ts'

/** Lets the routes of a scope take forms, by `@fastify/formbody` with a strict parser. */
export async function acceptForms(scope: FastifyInstance): Promise<void> {
  scope.addHook('preParsing', requireUtf8)
  await scope.register(formbody, { parser: parseForm })
}

/**
 * Reads `application/x-www-form-urlencoded` (WHATWG URL §5.1), strictly.
 *
 * @throws {Refusal} for a bad escape, bytes that are not UTF-8, NUL, or a repeated field (RFC 6749 §3.2)
 */
function parseForm(body: string): Record<string, string> {
  // Fastify has decoded the body by now, and bytes that are not UTF-8 have become U+FFFD.
  if (body.includes('\ufffd')) throw malformedBody('The form is not valid UTF-8')
  const form = newForm()
  for (const pair of body.split('&')) {
    if (pair === '') continue
    const equals = pair.indexOf('=')
    if (equals < 0) addField(form, decode(pair), '')
    else addField(form, decode(pair.slice(0, equals)), decode(pair.slice(equals + 1)))
  }
  return form
}

function decode(text: string): string {
  try {
    return /[%+]/.test(text) ? decodeURIComponent(text.replaceAll('+', ' ')) : text
  } catch {
    throw malformedBody('The form has a bad percent-encoding')
  }
}

/** A form without fields. It has no prototype, so a field may have any name. */
export const newForm = (): Record<string, string> => Object.create(null)

/** @throws {Refusal} for NUL, a lone surrogate, or a repeated field (RFC 6749 §3.2) */
export function addField(form: Record<string, string>, name: string, value: string): void {
  if (!isClean(name) || !isClean(value)) throw malformedBody('The form holds a NUL')
  if (name in form)
    throw malformedBody(/^[a-z_]{1,32}$/.test(name) ? `The parameter ${name} is repeated` : 'A parameter is repeated')
  form[name] = value
}
