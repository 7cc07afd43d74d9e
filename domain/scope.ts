// Texts, not expressions: JSON Schema takes them too.
/** One character of a scope name, RFC 6749 §3.3: visible ASCII without `"` and `\`. */
export const scopeCharacter = '[\\x21\\x23-\\x5b\\x5d-\\x7e]'
/** One character of a role: no comma either, for `GET /verify` passes roles on in one field, separated by commas. */
export const roleCharacter = '[\\x21\\x23-\\x2b\\x2d-\\x5b\\x5d-\\x7e]'
/** A whole `scope`: names with one space between them. */
export const scopePattern = `^${scopeCharacter}+( ${scopeCharacter}+)*$`

/** OpenID Connect Core §5.4 and §11: scopes that every client may ask for, at `/authorize`. */
export const openIdScopes = ['openid', 'profile', 'email', 'offline_access'] as const
/** Of a session that outlives the sign-in in the browser. */
export const offlineScope = 'offline_access'
/** Of a session whose client gets ID tokens. */
export const openIdScope = 'openid'

const scope = new RegExp(scopePattern)
const scopeName = new RegExp(`^${scopeCharacter}+$`)

export const isScope = (text: string): boolean => scope.test(text)
export const isScopeName = (text: string): boolean => scopeName.test(text)
export const isOpenIdScope = (name: string): boolean => (openIdScopes as readonly string[]).includes(name)
