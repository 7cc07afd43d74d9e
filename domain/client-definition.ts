import { anyAppId, type ClientDefinition, firstPartyId, pagesClient, wellFormedClientId } from './client.ts'
import { createFetchGuard } from './fetch-guard.ts'
import { isUuid } from './ids.ts'
import { redirectUriProblem } from './redirect-uri.ts'

/** What is wrong with a client: the member as a JSON pointer, and why, to follow its name. */
export interface Wrong {
  pointer: string
  detail: string
}

/**
 * Checks a definition.
 *
 * @param allowed AUTH_FETCH_ALLOW, for the address that is told of the end of sessions
 * @returns the first member that is not acceptable; undefined when all are
 */
export function validateClient(definition: ClientDefinition, allowed?: string[]): Wrong | undefined {
  const { redirectUris, postLogoutRedirectUris, backchannelLogoutUri } = definition
  return (
    wrongId(definition) ??
    wrongOfPublic(definition) ??
    wrongName(definition) ??
    wrongRedirect('/redirect_uris', redirectUris) ??
    wrongRedirect('/post_logout_redirect_uris', postLogoutRedirectUris) ??
    wrongLogoutUri(backchannelLogoutUri, allowed)
  )
}

function wrongId({ id, type }: ClientDefinition): Wrong | undefined {
  const pointer = '/client_id'
  if (!wellFormedClientId.test(id)) return { pointer, detail: 'must be 1 to 128 visible ASCII characters' }
  if (id === pagesClient.id) return { pointer, detail: 'must not be that of the pages of this service' }
  if (id === '.' || id === '..') return { pointer, detail: 'must not be . or .., which no URL can name' }
  // The `sub` of a token must not be taken for the other kind.
  if (isUuid(id.toLowerCase())) return { pointer, detail: 'must not look like the id of a user' }
  if ((id === firstPartyId || id === anyAppId) && type !== 'public')
    return { pointer: '/type', detail: `must be public for ${id}` }
  return undefined
}

function wrongOfPublic({ type, grants, introspect, pkce }: ClientDefinition): Wrong | undefined {
  if (type !== 'public') return undefined
  if (grants.includes('client_credentials')) {
    return { pointer: '/grants', detail: 'must not have client_credentials for a public client, which has no secret' }
  }
  if (introspect !== 'none') return { pointer: '/introspect', detail: 'is for confidential clients only' }
  // A code that is stolen on its way would be as good as a token.
  if (pkce === 'optional') return { pointer: '/pkce', detail: 'must be required for a public client' }
  return undefined
}

/** What would show a name as another: controls, and what turns the direction of the text around it (UAX #9). */
const misleading = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/u

/** Whether people see a name as it is, and not as another. */
export const isShownAsWritten = (name: string): boolean => name.trim() === name && !misleading.test(name)

const wrongName = ({ name }: ClientDefinition): Wrong | undefined =>
  name !== undefined && !isShownAsWritten(name)
    ? { pointer: '/name', detail: 'must not have control characters in it, nor spaces around it' }
    : undefined

function wrongRedirect(pointer: string, uris: string[] = []): Wrong | undefined {
  for (const [index, uri] of uris.entries()) {
    const detail = redirectUriProblem(uri)
    if (detail !== undefined) return { pointer: `${pointer}/${index}`, detail }
  }
  return undefined
}

/** OpenID Connect Back-Channel Logout 1.0 §2.2. A name that turns into a private address is found out when it is asked. */
function wrongLogoutUri(text: string | undefined, allowed?: string[]): Wrong | undefined {
  if (text === undefined) return undefined
  const pointer = '/backchannel_logout_uri'
  if (text.includes('#')) return { pointer, detail: 'must not have a fragment' }
  if (!URL.canParse(text)) return { pointer, detail: 'must be a URL' }
  const problem = createFetchGuard(allowed).problemWith(new URL(text))
  return problem === undefined ? undefined : { pointer, detail: `must be one that this service may call: ${problem}` }
}
