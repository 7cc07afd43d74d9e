import { Refusal } from '../../errors.ts'

export const basicChallenge = { 'www-authenticate': 'Basic realm="latchkey", charset="UTF-8"' }

/**
 * The texts that an id and a secret may stand for: one each, or two, since many programs send them without the encoding
 * that is due. Both are compared, and together they are one guess.
 */
export interface ClientCredentials {
  ids: string[]
  secrets: string[]
}

/**
 * Reads `client_secret_basic`: base64 of the form-encoded id and secret, RFC 6749 §2.3.1; of both as they are, if that
 * fits no client.
 *
 * @param authorization the header
 * @returns undefined for another scheme, and for an empty id with an empty secret: the login form of Swagger UI sends
 * these when its fields are left empty
 * @throws {Refusal} 401 `invalid_client` for a malformed header
 */
export function parseBasic(authorization: string): ClientCredentials | undefined {
  const encoded = /^Basic +([A-Za-z0-9+/]+=*)$/i.exec(authorization)?.[1]
  if (encoded === undefined && !/^Basic( |$)/i.test(authorization)) return undefined
  const text = encoded === undefined ? '' : Buffer.from(encoded, 'base64').toString()
  const colon = text.indexOf(':')
  if (text === ':') return undefined
  if (colon >= 0 && !text.includes('\ufffd'))
    return { ids: basicReadings(text.slice(0, colon)), secrets: basicReadings(text.slice(colon + 1)) }
  throw new Refusal('invalid_client', { reason: 'malformed Basic credentials', headers: basicChallenge })
}

function basicReadings(text: string): string[] {
  if (!/[%+]/.test(text)) return [text]
  try {
    return [...new Set([decodeURIComponent(text.replaceAll('+', ' ')), text])]
  } catch {
    return [text]
  }
}

/** Reads a field of `client_secret_post`. A plus that was not encoded has become a space. */
export const formReadings = (text: string): string[] =>
  text.includes(' ') ? [text, text.replaceAll(' ', '+')] : [text]
