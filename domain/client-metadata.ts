import { adminScope, type Client, isUrlId } from './client.ts'
import { isShownAsWritten } from './client-definition.ts'
import { bareHost, createFetchGuard } from './fetch-guard.ts'
import { redirectUriProblem } from './redirect-uri.ts'
import { parseStrictJson } from './strict-json.ts'

/*
 * Apps that nobody has registered, draft-ietf-oauth-client-id-metadata-document: their `client_id` is a URL, and what is
 * there says where a browser may be sent back to. They say it themselves, so nobody has vouched for any of it but the
 * host of that URL.
 */

/**
 * Reads a `client_id` that is a URL, §3 of the draft: with a path, without dot segments, a fragment or a user. Only in
 * the one form in which it is sent and shown, so that nothing can be taken for another (§8.1).
 *
 * @returns undefined for any other; it has not been decided whether the URL may be asked
 */
export function metadataUrl(id: string): URL | undefined {
  if (!isUrlId(id) || !URL.canParse(id)) return undefined
  const url = new URL(id)
  const { href, pathname, username, password } = url
  const isPlain = username === '' && password === '' && !id.includes('#') && !href.includes('..')
  return href === id && isPlain && pathname !== '/' ? url : undefined
}

/**
 * Makes a function that tells whether an app may come by an id without having been registered.
 *
 * @param settings by which it may, and what may be asked for
 */
export function createAdmission({
  AUTH_PAGES: pages,
  AUTH_CIMD: hosts,
  AUTH_FETCH_ALLOW: allowed,
}: {
  AUTH_PAGES: 'on' | 'off'
  AUTH_CIMD: boolean | string[]
  AUTH_FETCH_ALLOW?: string[]
}): (id: string) => boolean {
  if (pages === 'off' || hosts === false) return () => false
  const guard = createFetchGuard(allowed)
  const names = hosts === true ? undefined : new Set(hosts.map(bareHost))
  return (id) => {
    const url = metadataUrl(id)
    return url !== undefined && (names?.has(bareHost(url.hostname)) ?? true) && guard.problemWith(url) === undefined
  }
}

/**
 * An app that nobody has registered, without what its metadata says: enough for its tokens, and for nothing that begins
 * with a browser.
 *
 * @param template the client `anyAppId`, if there is one
 * @param generation ahead of what was revoked of a client that somebody had registered under this id
 */
export const unregisteredClient = (id: string, template: Client | undefined, generation: number): Client => ({
  id,
  type: 'public',
  grants: ['authorization_code', 'refresh_token'],
  scopes: template?.scopes.filter((name) => name !== adminScope) ?? [],
  audience: template?.audience ?? [],
  introspect: 'none',
  firstParty: false,
  consent: 'ask',
  secrets: [],
  createdAt: 0,
  isDeclared: false,
  generation,
})

/** What is taken from a document. */
export type ClientMetadata = Required<Pick<Client, 'name' | 'redirectUris'>>

/** A document that cannot be used. The message says why, in words for the log. */
export class WrongMetadata extends Error {}

const mostRedirectUris = 50

/**
 * Reads what is at the URL of a client.
 *
 * @throws {WrongMetadata} where it is not the metadata of this client, or of one that can do nothing here
 */
export function readMetadata(id: string, body: Uint8Array): ClientMetadata {
  const members = readObject(body)
  if (members['client_id'] !== id) throw new WrongMetadata('its client_id is another')
  for (const name of ['client_secret', 'client_secret_expires_at'])
    if (members[name] !== undefined) throw new WrongMetadata(`it has a ${name}, and nothing there is secret`)
  const { token_endpoint_auth_method: method = 'none' } = members
  if (method !== 'none') throw new WrongMetadata('its token_endpoint_auth_method is not none')
  mustHave(members, 'grant_types', 'authorization_code')
  mustHave(members, 'response_types', 'code')
  const { redirect_uris: given } = members
  if (!Array.isArray(given) || given.length > mostRedirectUris)
    throw new WrongMetadata(`it has no redirect_uris, or more than ${mostRedirectUris}`)
  // Apps name those for other services, too.
  const redirectUris = given.filter((uri) => typeof uri === 'string' && redirectUriProblem(uri) === undefined)
  if (redirectUris.length === 0) throw new WrongMetadata('none of its redirect_uris can be used')
  return { name: nameOf(id, members['client_name']), redirectUris }
}

function readObject(body: Uint8Array): Record<string, unknown> {
  let value: unknown
  try {
    value = parseStrictJson(body)
  } catch {
    throw new WrongMetadata('it is no JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new WrongMetadata('it is no JSON object')
  return value as Record<string, unknown>
}

function mustHave(members: Record<string, unknown>, name: string, value: string): void {
  const { [name]: values = [value] } = members
  if (!Array.isArray(values) || !values.includes(value)) throw new WrongMetadata(`its ${name} have no ${value}`)
}

/** With the host, for anybody can give themselves a name. */
function nameOf(id: string, name: unknown): string {
  const { host } = new URL(id)
  const isUsable = typeof name === 'string' && name.length > 0 && name.length <= 100 && isShownAsWritten(name)
  return isUsable ? `${name} (${host})` : host
}
