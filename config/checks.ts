import { createRequire } from 'node:module'
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'
import { splitHosts } from '../stores/postgres/hosts.ts'

/*
 * Checks of settings by their text alone. Each returns what is wrong, or undefined; a secret is never repeated in it.
 */

const hostName = /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?$/i

/** HOST: an address, or a name, which is looked up later. */
export function validateHost(text: string): string | undefined {
  if (isIP(text)) return undefined
  if (/^\[.*\]$/.test(text) && isIP(text.slice(1, -1))) return 'an IPv6 address stands here without brackets'
  if (/^([0-9.]+|[a-z0-9.-]+):[0-9]+$/i.test(text)) return 'the port is set by PORT'
  // The resolver would take `3000` for 0.0.11.184.
  return hostName.test(text) && !/(^|\.)(\d+|0x[0-9a-f]*)\.?$/i.test(text)
    ? undefined
    : 'it is neither an address nor a name'
}

/** AUTH_ISSUER: a URL by RFC 8414 §2, in its canonical form, because it is compared as text. */
export function validateIssuer(text: string): string | undefined {
  const [, authority = '', path = ''] = /^https?:\/\/([^/]*)(.*)$/i.exec(text) ?? []
  if (/[\s\\?#]|[\0-\x20\x7f]/.test(text)) return 'it has a blank, a backslash, a query or a fragment'
  if (authority.includes('@')) return 'it has a user name'
  let url: URL
  try {
    url = new URL(text)
    decodeURIComponent(url.pathname)
  } catch {
    return 'it is no URL'
  }
  const hosts = [url.host, `${url.hostname}:${url.protocol === 'http:' ? 80 : 443}`]
  if (authority === '' || !hosts.includes(authority.toLowerCase())) return `its host is written ${url.host}`
  if (url.port === '0') return 'nobody can call port 0'
  return /\/(\.|%2e){1,2}(\/|$)/i.test(path) ? 'its path has . or .. in it' : undefined
}

/** Of the widest private ranges, 10.0.0.0/8 and fc00::/7; a wider range has several owners. */
const fewestBits = { ipv4: 8, ipv6: 7 }
const anyIpv4 = ipaddr.parse('::ffff:0:0') as ipaddr.IPv6

/** An address or a CIDR range. */
function validateRange(text: string): string | undefined {
  const [address = '', bits, ...more] = text.split('/')
  if (!isIP(address) || more.length > 0) return 'it is neither an address nor a range'
  const most = ipaddr.parse(address).kind() === 'ipv4' ? 32 : 128
  return bits === undefined || (/^(0|[1-9][0-9]{0,2})$/.test(bits) && Number(bits) <= most)
    ? undefined
    : `a range of this kind has 0 to ${most} bits`
}

/** A member of AUTH_FETCH_ALLOW: a host name, an address or a CIDR range. */
export function validateFetchAllow(text: string): string | undefined {
  if (/:\/\//.test(text)) return 'a host stands here without its scheme'
  if (text.includes('*')) return 'each host is named by itself, or by the range of its addresses'
  if (isIP(text.split('/')[0] as string)) {
    const [address = '', bits = '128'] = text.split('/')
    const isMapped = ipaddr.parse(address).range() === 'ipv4Mapped'
    return validateRange(text) ?? (isMapped && Number(bits) < 96 ? 'it is more than all of IPv4' : undefined)
  }
  if (/:\d+$/.test(text)) return 'a host stands here without a port'
  return text.includes('/') ? 'it is neither a host nor a range' : validateHost(text)
}

/** A member of AUTH_CIMD: a host, or the switch by itself. */
export function validateMetadataHost(text: string): string | undefined {
  if (text === 'on' || text === 'off') return undefined
  // Else `true` would be a host that nobody has.
  if (!/[.:]/.test(text) && text !== 'localhost') return 'it is neither the whole name of a host nor an address'
  if (text.includes('/')) return 'a host stands here without its scheme and without a path'
  if (text.includes('*')) return 'each host is named by itself'
  if (/:\d+$/.test(text) && !isIP(text)) return 'a host stands here without a port'
  return validateHost(text)
}

/** A member of AUTH_TRUSTED_PROXIES: an address or a CIDR range. */
export function validateProxy(text: string): string | undefined {
  const wrong = validateRange(text)
  const [address = '', bits] = text.split('/')
  if (wrong || bits === undefined) return wrong
  const parsed = ipaddr.parse(address)
  const kind = parsed.kind()
  const hasAllIpv4 = kind === 'ipv6' && Number(bits) <= 96 && anyIpv4.match(parsed as ipaddr.IPv6, Number(bits))
  const isMapped = kind === 'ipv6' && (parsed as ipaddr.IPv6).isIPv4MappedAddress()
  if (hasAllIpv4 || Number(bits) < (isMapped ? 96 + fewestBits.ipv4 : fewestBits[kind])) {
    return 'it trusts strangers, who could then say that they come from any address; name the proxies'
  }
  return undefined
}

const encode =
  'in user names, passwords and the name of the database, / @ : # ? and % are written %2F %40 %3A %23 %3F and %25'

/** DATABASE_URL, parsed as the pool parses it. Nothing of it is repeated, for it holds a password. */
export function validateDatabaseUrl(text: string): string | undefined {
  const [, rest = ''] = /^[a-z]+:\/\/[^/?#]*(.*)$/s.exec(text) ?? []
  // These characters end a password, and its rest would be read as host or database.
  if (/^[^=]*@/.test(rest) || rest.includes('#')) return `it cannot be read; ${encode}`
  const { parse } = createRequire(import.meta.url)('pg-connection-string') as typeof import('pg-connection-string')
  const urls = splitHosts(text)
  for (const url of urls) {
    try {
      const { host, port } = parse(url)
      if (urls.length > 1 && !host) return 'one of its hosts is empty'
      if (host && /\s/.test(host)) return 'a host has a blank in it'
      if (port && !(/^[0-9]+$/.test(port) && Number(port) >= 1 && Number(port) <= 65_535))
        return 'a port is a number from 1 to 65535'
    } catch (error) {
      const { syscall, code } = error as NodeJS.ErrnoException
      return syscall
        ? `a file of certificates or keys that it names cannot be read: ${code}`
        : `it cannot be read; ${encode}`
    }
  }
  return undefined
}
