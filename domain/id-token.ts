import { InvalidToken, isText, readJws, readPart, type UnverifiedToken } from './access-token.ts'

/** What an ID token says, as far as one that comes back is read. */
export interface IdTokenHint {
  sub: string
  /** the `client_id` */
  aud: string
  /** the session of the client */
  sid?: string
}

const idTokenType = /^JWT$/i

/**
 * Reads an ID token that we may have made, OpenID Connect Core §2. It may be past its time: what it names is looked up.
 *
 * @returns what it says, before its signature has been verified
 * @throws {InvalidToken} for what is none, or another issuer's
 */
export function readIdToken(token: string, issuer: string): UnverifiedToken & { claims: IdTokenHint } {
  const parts = readJws(token, idTokenType, 'typ is not JWT')
  const { iss, sub, aud, sid } = readPart(parts.payload)
  if (iss !== issuer) throw new InvalidToken('iss is another')
  if (!isText(sub) || !isText(aud)) throw new InvalidToken('sub or aud is missing or no text')
  return { ...parts, claims: { sub, aud, ...(isText(sid) && { sid }) } }
}
