import type { Client } from './client.ts'

/*
 * Where a browser may be sent to with a code. What is registered has one meaning only: browsers, apps and this service
 * read each part of it alike, so that nobody can register or ask for what another of them takes for another host
 * (RFC 9700 §4.1). What comes with a request is compared as text and never read.
 */

/** What may stand in a URL at all, RFC 3986 §2. A browser would write anything else in another way. */
const urlText = /^(?:[\w\-.~:/?#[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+$/
/** A scheme, and behind `//` the host with its port. */
const parts = /^([a-z][a-z0-9+.-]*):(?:\/\/([^/?#]*))?(.*)$/i
/** RFC 8252 §7.1: the name of a domain in reverse, which no other app can claim to own. */
const privateScheme = /^[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+$/i
const hostAndPort = /^(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::[0-9]{1,5})?$/i
const thisDevice = ['127.0.0.1', '[::1]', 'localhost']

/**
 * Checks an address to which browsers are to be sent, before it is registered.
 *
 * @returns why it may not be, to follow the name of the member; undefined where it may
 */
export function redirectUriProblem(text: string): string | undefined {
  if (text.includes('*')) return 'must not have a wildcard: each address is compared as a whole'
  if (text.includes('#')) return 'must not have a fragment'
  if (!urlText.test(text))
    return 'must be a URL of ASCII characters, without spaces and backslashes, the others written as %XX'
  const [, scheme = '', authority, rest = ''] = parts.exec(text) ?? []
  if (scheme === '') return 'must begin with a scheme, such as https:'
  if (authority?.includes('@')) return 'must not have a user name or a password'
  const decoded = text.replace(/%[0-9A-Fa-f]{2}/g, (code) => String.fromCharCode(Number.parseInt(code.slice(1), 16)))
  if (decoded.includes('..')) return 'must not have .. in it'
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\x00-\x1f\x7f\\]/.test(decoded)) return 'must not have a backslash or a control character in it, as %XX neither'
  if (!/^https?$/i.test(scheme)) return privateUseProblem(scheme, authority, rest)
  return webProblem(text, scheme.toLowerCase(), authority)
}

function webProblem(text: string, scheme: string, authority: string | undefined): string | undefined {
  const [, host] = hostAndPort.exec(authority ?? '') ?? []
  // Among those that differ are numbers that browsers read as addresses, such as 127.1 and 0x7f000001.
  if (host === undefined || !URL.canParse(text) || new URL(text).hostname !== host.toLowerCase())
    return 'must have a host, and perhaps a port, behind //, as browsers write them'
  if (scheme === 'http' && !thisDevice.includes(host.toLowerCase()))
    return `must begin with https:, as http: is for ${thisDevice.join(', ')} only`
  return undefined
}

function privateUseProblem(scheme: string, authority: string | undefined, rest: string): string | undefined {
  if (!privateScheme.test(scheme))
    return 'must begin with https:, or with the scheme of an app, which has a dot in it, such as com.example.app:'
  return `${authority ?? ''}${rest}` === '' ? 'must have something behind its scheme' : undefined
}

/** An address on this device by its number, and its port: an app has whichever is free, RFC 8252 §7.3. */
const loopback = /^http:\/\/(127\.0\.0\.1|\[::1\])(?::([1-9][0-9]{0,4}))?(?=[/?]|$)/
const withoutPort = (text: string): string =>
  text.replace(loopback, (whole, host: string, port = '1') => (Number(port) < 65_536 ? `http://${host}` : whole))

/**
 * Whether a `redirect_uri` is one of a client: the same text, RFC 9700 §2.1. The port of 127.0.0.1 and [::1] may be
 * another for public clients.
 */
export function isRegistered(
  { type, redirectUris = [] }: Pick<Client, 'type' | 'redirectUris'>,
  text: string,
): boolean {
  if (redirectUris.includes(text)) return true
  if (type !== 'public' || !loopback.test(text)) return false
  const asked = withoutPort(text)
  return redirectUris.some((registered) => withoutPort(registered) === asked)
}
