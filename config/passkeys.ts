import { isIP } from 'node:net'
import { extensionHosts, validateOrigin } from './origins.ts'

/*
 * What passkeys are of. An authenticator keeps a passkey for a relying party (rpId), which is a name, and signs the
 * origin of the page or app that uses it.
 */

const isAddress = (hostname: string) => isIP(hostname.replace(/^\[|\]$/g, '')) !== 0

/** The relying party of an issuer; undefined where its host is an address, for which browsers make no passkeys. */
export function rpIdOf(issuer: string): string | undefined {
  const { hostname } = new URL(issuer)
  return isAddress(hostname) ? undefined : hostname
}

/** The origin of an Android app: the SHA-256 of the certificate that signs it, in base64url. */
const androidApp = /^android:apk-key-hash:(.*)$/
const sha256 = /^[A-Za-z0-9_-]{43}$/

/**
 * Checks a member of AUTH_WEBAUTHN_ORIGINS: an origin as an authenticator signs it, WebAuthn §5.8.1. It is compared as
 * a whole.
 *
 * @returns what is wrong, or undefined
 */
export function validatePasskeyOrigin(text: string): string | undefined {
  const [, hash] = androidApp.exec(text) ?? []
  if (hash !== undefined) {
    const expected = 'the SHA-256 of the certificate in base64url, 43 characters'
    return sha256.test(hash) ? undefined : `android:apk-key-hash: is followed by ${expected}`
  }
  if (text.includes('*')) return 'each origin is named by itself, without wildcards'
  const wrong = validateOrigin(text)
  if (wrong) return wrong
  const { protocol, hostname } = new URL(text)
  if (isAddress(hostname)) return 'browsers have passkeys for names, and not for addresses'
  const isLocal = hostname === 'localhost' || hostname.endsWith('.localhost')
  if (protocol === 'http:') return isLocal ? undefined : 'browsers have passkeys on https only, and on localhost'
  return protocol === 'https:' || protocol in extensionHosts ? undefined : `no passkey is used on ${protocol}//`
}

interface PasskeySettings {
  AUTH_ISSUER: string
  AUTH_WEBAUTHN_ORIGINS: string[]
}

/** The origins of pages that browsers let use the passkeys of an issuer only after they have asked it, WebAuthn §5.11. */
export const relatedOrigins = ({ AUTH_ISSUER, AUTH_WEBAUTHN_ORIGINS }: PasskeySettings): string[] =>
  AUTH_WEBAUTHN_ORIGINS.filter(
    (origin) => /^https?:/.test(origin) && !`.${new URL(origin).hostname}`.endsWith(`.${rpIdOf(AUTH_ISSUER)}`),
  )
