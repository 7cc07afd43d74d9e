import { createRequire } from 'node:module'
import { isIP } from 'node:net'
import { distance } from 'fastest-levenshtein'
import { uuid } from '../domain/ids.ts'

/*
 * The members of AUTH_CORS_ORIGINS. Browsers send an origin in one form only (RFC 6454 §6.2, WHATWG URL), and it is
 * compared as text: a member in another form would never match, so it is refused at start.
 */

/** `https://*.example.com`, with or without a port */
const wildcard = /^(https?:\/\/)\*\.([^*]+)$/
/** Schemes whose pages have the origin `null` or none. */
const neverSent = new Set(['about:', 'blob:', 'data:', 'file:', 'ftp:', 'javascript:', 'mailto:', 'ws:', 'wss:'])
/** The host of the origin of a browser extension, by its scheme. */
export const extensionHosts: Record<string, [form: RegExp, description: string]> = {
  'chrome-extension:': [/^[a-p]{32}$/, 'the 32 letters a to p of an extension id'],
  'moz-extension:': [uuid, 'a UUID in lower case'],
}

/**
 * Checks that a text is an origin that browsers send, and one that is safe to allow.
 *
 * @returns what is wrong, and what to write instead where that is known; or undefined
 */
export function validateOrigin(text: string): string | undefined {
  if (text === '*') return 'it would allow every page there is; list the origins'
  if (text.toLowerCase() === 'null') return 'it is the origin of any local file and any sandboxed frame'
  const [, scheme, parent] = wildcard.exec(text) ?? []
  if (scheme !== undefined && parent !== undefined) return validateWildcard(scheme, parent)
  if (text.includes('*'))
    return 'a wildcard stands for the leftmost labels of an http or https name, as in https://*.example.com'

  const url = parse(text)
  if (!url) return 'it is no URL'
  return url.protocol === 'http:' || url.protocol === 'https:'
    ? whatDiffers(text, url.origin)
    : validateAppOrigin(text, url)
}

function validateWildcard(scheme: string, parent: string): string | undefined {
  const url = parse(`${scheme}x.${parent}`)
  if (!url) return 'it is no URL with a wildcard'
  const differs = whatDiffers(`${scheme}x.${parent}`, url.origin)
  if (differs) return differs.replace(`${scheme}x.`, `${scheme}*.`)
  const name = url.hostname.slice(2)
  return name === 'localhost' || isOwned(name) ? undefined : `anybody can have a name below ${name}`
}

function validateAppOrigin(text: string, { protocol, host }: URL): string | undefined {
  if (neverSent.has(protocol)) return `no browser sends an origin that begins with ${protocol}`
  const meant = ['http:', 'https:'].find((known) => distance(known, protocol) === 1)
  if (meant) return `${protocol} is no scheme of a browser; did you mean ${meant}//?`
  if (!text.includes('://') || host === '') return 'it has no host'
  const [form, description] = extensionHosts[protocol] ?? []
  if (form && !form.test(host)) return `${protocol}// is followed by ${description}`
  return whatDiffers(text, `${protocol}//${host}`)
}

function whatDiffers(text: string, origin: string): string | undefined {
  if (text === origin) return undefined
  if (text === `${origin}/`) return `a browser sends it without the final slash: ${origin}`
  return `a browser sends ${origin}`
}

/**
 * Whether a name is below a public suffix such as `co.uk` or `github.io`. The list is large, so it is loaded for a
 * wildcard only.
 */
function isOwned(name: string): boolean {
  if (isIP(name.replace(/^\[|\]$/g, ''))) return false
  const { getDomain } = createRequire(import.meta.url)('tldts') as typeof import('tldts')
  return getDomain(name, { allowPrivateDomains: true }) !== null
}

function parse(text: string): URL | undefined {
  try {
    return new URL(text)
  } catch {
    return undefined
  }
}

const labels = /^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/

/**
 * Makes a function that tells whether an `Origin` is allowed.
 *
 * @param origins that `validateOrigin` accepts; `*.` stands for one label or more
 */
export function originMatcher(origins: string[]): (origin: string) => boolean {
  const exact = new Set(origins.filter((origin) => !wildcard.test(origin)))
  const families = origins.flatMap((origin) => {
    const [, scheme, parent] = wildcard.exec(origin) ?? []
    return scheme === undefined ? [] : [{ scheme, below: `.${parent}` }]
  })
  return (origin) =>
    exact.has(origin) ||
    families.some(
      ({ scheme, below }) =>
        origin.startsWith(scheme) && origin.endsWith(below) && labels.test(origin.slice(scheme.length, -below.length)),
    )
}
