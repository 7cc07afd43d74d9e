import type { FastifySchemaValidationError } from 'fastify'
import { type InvalidMember, Refusal } from '../../errors.ts'
import type { Shape } from './error-families.ts'

/** Members that are named: a response is never much longer than its request. */
const mostNamed = 5

/**
 * Turns the errors of a route's schema into a refusal that names the first few members, each once, and counts the
 * others.
 *
 * @param found by Ajv; the body parsers limit their number. It is emptied
 * @param part of the request: body, querystring, params
 */
export function invalid(found: FastifySchemaValidationError[], part = 'body', { hasMembers }: Shape): Refusal {
  const members = new Map<string, InvalidMember>()
  for (const error of found) {
    const member = toMember(error)
    if (!members.has(member.pointer)) members.set(member.pointer, member)
  }
  // Ajv keeps this list until the schema refuses the next request, and a name in it may be a misplaced secret.
  found.length = 0
  const errors = [...members.values()].slice(0, mostNamed)
  const named = hasMembers ? errors.slice(0, 1) : errors
  const rest = members.size - named.length
  const words = named.map(({ pointer, detail }) => `${pointer || `the ${nameOf(part)}`} ${detail}`)
  return new Refusal('invalid_request', { detail: words.join(', ') + (rest > 0 ? `, and ${rest} more` : ''), errors })
}

const nameOf = (part: string) => (part === 'querystring' ? 'query' : part)

function toMember({
  instancePath,
  keyword,
  params,
  message = 'is not valid',
}: FastifySchemaValidationError): InvalidMember {
  if (keyword === 'additionalProperties') {
    return {
      pointer: `${instancePath}${unknownMember(String(params['additionalProperty']))}`,
      detail: 'is not known here',
    }
  }
  if (keyword === 'required') return { pointer: `${instancePath}/${params['missingProperty']}`, detail: 'is required' }
  const isBlank =
    (keyword === 'pattern' && params['pattern'] === '\\S') || (keyword === 'minLength' && params['limit'] === 1)
  return { pointer: instancePath, detail: isBlank ? 'must not be empty' : message }
}

/**
 * The pointer (RFC 6901 §3) of an unknown member. Its name may be a misplaced secret: only a short word is repeated.
 */
const unknownMember = (name: string) =>
  /^[\x21-\x7e]{1,32}$/.test(name) ? `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}` : ''
