import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/*
 * Where the service may send requests of its own: to what is public, by https, and to what the operator names. A URL
 * that somebody else wrote must not make it ask what only this machine or its network can reach (SSRF).
 */

/**
 * Whether an address is one of the public internet. Anything else is not: loopback, private, link-local and with it the
 * metadata of clouds, carrier-grade NAT, unique local, and the forms in which IPv6 carries an IPv4 address (mapped,
 * NAT64, 6to4, Teredo).
 */
export function isPublic(address: string): boolean {
  const parsed = ipaddr.parse(address)
  if (parsed.range() !== 'unicast') return false
  // Of IPv6, only what has been given out (RFC 4291 §2.4): the deprecated ::127.0.0.1 is in none of the ranges.
  return parsed.kind() === 'ipv4' || ((parsed as ipaddr.IPv6).parts[0] as number) >> 13 === 1
}

/** A host of a URL or of a list: without brackets, without the dot at its end. */
export const bareHost = (host: string) =>
  host
    .toLowerCase()
    .replace(/^\[|\]$/g, '')
    .replace(/\.$/, '')
const isOwnName = (host: string) => host === 'localhost' || host.endsWith('.localhost')
/** What is carried in IPv6 is compared as what it is. */
const parse = (address: string) => ipaddr.process(address)

export type FetchGuard = ReturnType<typeof createFetchGuard>

/**
 * Makes the guard of requests that the service sends.
 *
 * @param allowed host names, addresses and CIDR ranges that may be private, and that may be asked by http
 */
export function createFetchGuard(allowed: string[] = []) {
  const names = new Set(allowed.filter((entry) => !isIP(entry.split('/')[0] as string)).map(bareHost))
  const ranges = allowed.flatMap((entry) => {
    const [address = '', bits] = entry.split('/')
    if (!isIP(address)) return []
    const from = ipaddr.parse(address)
    const most = from.kind() === 'ipv4' ? 32 : 128
    return [[parse(address), Number(bits ?? most) - (most - parse(address).toByteArray().length * 8)] as const]
  })
  const isInRange = (address: string) => {
    const parsed = parse(address)
    return ranges.some(([from, bits]) => from.kind() === parsed.kind() && parsed.match(from, bits))
  }

  return {
    /**
     * What can be told from a URL alone. A name may still turn into an address that is refused.
     *
     * @returns why it may not be asked, without repeating it; undefined where it may
     */
    problemWith({ protocol, hostname, username, password }: URL): string | undefined {
      const host = bareHost(hostname)
      if (protocol !== 'https:' && protocol !== 'http:') return 'it is neither https nor http'
      if (username !== '' || password !== '') return 'it has a user name or a password'
      if (names.has(host)) return undefined
      if (isIP(host)) {
        if (isInRange(host)) return undefined
        if (!isPublic(host)) return `${host} is no public address, and AUTH_FETCH_ALLOW does not name it`
      } else if (ranges.length > 0) {
        // An address in one of them may be behind it.
        return isOwnName(host) && !isInRange('127.0.0.1') && !isInRange('::1') ? notNamed(host) : undefined
      } else if (isOwnName(host)) return notNamed(host)
      return protocol === 'https:' ? undefined : 'it is http, and AUTH_FETCH_ALLOW does not name its host'
    },

    /** Whether a connection for a URL may be made to an address that its name has turned into. */
    mayConnect: ({ protocol, hostname }: URL, address: string): boolean =>
      names.has(bareHost(hostname)) || isInRange(address) || (protocol === 'https:' && isPublic(address)),
  }
}

const notNamed = (host: string) => `${host} is this machine, and AUTH_FETCH_ALLOW does not name it`
