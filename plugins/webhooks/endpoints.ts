import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type Static, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { distance } from 'fastest-levenshtein'
import { ConfigError } from '../../config.ts'
import { createFetchGuard } from '../../domain/fetch-guard.ts'
import { expectedSecret, readSecret } from '../../domain/webhook-secret.ts'
import { type EventName, events } from '../../events.ts'

/** Whoever is told of events: a member of AUTH_WEBHOOKS_FILE. */
export interface Endpoint {
  /** of its URL: another URL is another endpoint */
  id: string
  url: URL
  /** the bytes of each, the one to sign with first */
  secrets: Buffer[]
  /** names and `subject.*`, as the file has them; undefined for all */
  events: string[] | undefined
  wants(event: string): boolean
}

const Declarations = Type.Array(
  Type.Object(
    {
      url: Type.String({ minLength: 1, maxLength: 2048 }),
      secret: Type.Optional(Type.String()),
      secrets: Type.Optional(Type.Array(Type.String(), { minItems: 1, maxItems: 10 })),
      events: Type.Optional(Type.Array(Type.String(), { minItems: 1, maxItems: 200 })),
    },
    { additionalProperties: false },
  ),
  // Each is asked for once a second by every process.
  { maxItems: 50 },
)

const names = Object.keys(events) as EventName[]
const families = [...new Set(names.map((name) => `${name.split('.')[0]}.*`))]

/**
 * Reads AUTH_WEBHOOKS_FILE: a JSON array of endpoints.
 *
 * @param allowed AUTH_FETCH_ALLOW
 * @throws {ConfigError} for whatever is not as expected, naming the endpoint by its place and host: never a secret, and
 * of a URL no more than that, for its path may be one
 */
export function readEndpoints(path: string, allowed?: string[]): Endpoint[] {
  const expected = (what: string) => new ConfigError(`AUTH_WEBHOOKS_FILE: expected ${what} in ${path}`)
  let content: unknown
  try {
    content = JSON.parse(readFileSync(path, 'utf8').replace(/^\ufeff/, ''))
  } catch (error) {
    // Never the parser's message: it may quote a secret.
    throw expected(`JSON that can be read, got ${(error as NodeJS.ErrnoException).code ?? 'no JSON'},`)
  }
  const error = Value.Errors(Declarations, content).First()
  if (error) {
    // A member that is no short word may be a secret in the wrong place.
    const member = error.path.replace(/[^/]+/g, (name) => (/^\w{1,32}$/.test(name) ? name : '?')) || 'the list'
    throw expected(`an array of {url, secret or secrets, events?} (${member}: ${error.message})`)
  }
  const guard = createFetchGuard(allowed)
  const endpoints = (content as Static<typeof Declarations>).map(({ url: text, secret, secrets, events }, index) => {
    const url = URL.canParse(text) ? new URL(text) : undefined
    const place = `/${index}/url`
    if (!url) throw expected(`a URL at ${place}`)
    const problem = guard.problemWith(url)
    if (problem !== undefined)
      throw expected(`an https URL of a public host, or of one that AUTH_FETCH_ALLOW names, at ${place}: ${problem};`)
    if ((secret === undefined) === (secrets === undefined))
      throw expected(`either secret or secrets for ${url.host}, at /${index},`)
    const keys = (secrets ?? [secret as string]).map(readSecret)
    if (keys.includes(undefined)) throw expected(`for ${url.host}, at /${index}, as each secret ${expectedSecret}`)
    const unknown = events?.find((name) => !names.includes(name as EventName) && !families.includes(name))
    if (unknown !== undefined)
      throw expected(`names of events for ${url.host}, got ${JSON.stringify(unknown)} (did you mean ${near(unknown)}?)`)
    return endpointOf(url, keys as Buffer[], events)
  })
  const twice = endpoints.find(({ id }, index) => endpoints.findIndex((one) => one.id === id) !== index)
  if (twice) throw expected(`each URL once only, got one at ${twice.url.host} again,`)
  return endpoints
}

function endpointOf(url: URL, secrets: Buffer[], wanted: string[] | undefined): Endpoint {
  return {
    id: createHash('sha256').update(url.href).digest('hex').slice(0, 12),
    url,
    secrets,
    events: wanted,
    wants: (event) => !wanted || wanted.some((name) => name === event || name === `${event.split('.')[0]}.*`),
  }
}

const near = (unknown: string) =>
  [...names, ...families].reduce((best, name) => (distance(unknown, name) < distance(unknown, best) ? name : best))
