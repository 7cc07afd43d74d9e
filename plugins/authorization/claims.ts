import { claimsOfScope } from '../../domain/user-claims.ts'
import { wrongRequest } from './parameters.ts'

/** The parameter `claims`, OpenID Connect Core §5.5, as far as it asks for what there is. */
export interface ClaimsRequest {
  /** claims of the user that the ID token is to have */
  ofIdToken: string[]
  /** the scopes that have what was asked for one by one: so it is consented to, and kept, like any other */
  scopes: string[]
  acr?: { isEssential: boolean; values: string[] }
}

const scopeOfClaim: Record<string, string> = Object.fromEntries(
  Object.entries(claimsOfScope).flatMap(([scope, names]) => names.map((name) => [name, scope])),
)

/** @throws {Refusal} `invalid_request` for what is no such JSON */
export function readClaimsRequest(text: string | undefined): ClaimsRequest {
  if (text === undefined) return { ofIdToken: [], scopes: [] }
  const claims = membersOf(parse(text))
  const ofIdToken = Object.keys(claims['id_token'] ?? {}).filter((name) => Object.hasOwn(scopeOfClaim, name))
  const all = [...ofIdToken, ...Object.keys(claims['userinfo'] ?? {})]
  const scopes = [
    ...new Set(all.filter((name) => Object.hasOwn(scopeOfClaim, name)).map((name) => scopeOfClaim[name] as string)),
  ]
  const acr = claims['id_token']?.['acr']
  if (typeof acr !== 'object' || acr === null) return { ofIdToken, scopes }
  const { essential, value, values = [value] } = acr as { essential?: unknown; value?: unknown; values?: unknown }
  const texts = Array.isArray(values) ? values.filter((one) => typeof one === 'string') : []
  return { ofIdToken, scopes, acr: { isEssential: essential === true, values: texts } }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw wrongRequest('The claims must be JSON')
  }
}

/** An object of objects. */
function membersOf(value: unknown): Record<string, Record<string, unknown>> {
  const isObject = (one: unknown): one is object => typeof one === 'object' && one !== null && !Array.isArray(one)
  if (!isObject(value)) throw wrongRequest('The claims must be a JSON object')
  const { id_token: idToken, userinfo } = value as Record<string, unknown>
  if ([idToken, userinfo].some((one) => one !== undefined && !isObject(one)))
    throw wrongRequest('The id_token and userinfo of the claims must be JSON objects')
  return { ...(idToken !== undefined && { id_token: idToken }), ...(userinfo !== undefined && { userinfo }) } as never
}
