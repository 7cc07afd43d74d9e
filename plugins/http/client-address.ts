import { BlockList, isIP, SocketAddress } from 'node:net'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyRequest {
    /** where the request comes from, as `createAddressReader` says; the one place that tells */
    readonly address: string
  }
}

/** A chain of proxies is not longer. Whoever sends more members gets the last one that was looked at. */
const mostHops = 32
/** No address with its port, brackets, quotes and zone is longer. */
const longestMember = 128

/**
 * Finds out which address a request comes from: the peer of the socket or, when that is a trusted proxy, the rightmost address in
 * `X-Forwarded-For` that is not one. What stands left of that one is what a client claims, and is not looked at.
 *
 * @param trusted addresses and CIDR ranges
 * @returns a function of the peer and the header to an address in canonical form. Where the header has something else than an
 * address in the decisive place, the peer counts: a text that anybody may vary must never stand for an address
 */
export function createAddressReader(
  trusted: string[] = [],
): (peer: string | undefined, forwardedFor?: string) => string {
  const proxies = new BlockList()
  for (const range of trusted) addRange(proxies, range)
  const isProxy = (address: string) => proxies.check(address, address.includes(':') ? 'ipv6' : 'ipv4')

  return (peer = '', forwardedFor = '') => {
    const peerAddress = canonicalAddress(peer) ?? peer
    if (forwardedFor === '' || !isIP(peerAddress) || !isProxy(peerAddress)) return peerAddress
    let address = peerAddress
    let hops = 0
    for (let end = forwardedFor.length; end > 0 && hops < mostHops; hops++) {
      const comma = forwardedFor.lastIndexOf(',', end - 1)
      const member = forwardedFor.slice(comma + 1, end).trim()
      end = comma
      // RFC 9110 §5.6.1: empty members of a list are none.
      if (member === '') continue
      const forwarded = readMember(member)
      if (forwarded === undefined) return peerAddress
      address = forwarded
      if (!isProxy(address)) return address
    }
    return address
  }
}

/** An address as proxies write it: bare, in quotes, with a port, an IPv6 one in brackets too. */
function readMember(member: string): string | undefined {
  if (member.length > longestMember) return undefined
  const text = /^"(.*)"$/.exec(member)?.[1]?.trim() ?? member
  // An IPv6 address without brackets has no port: its last group would be one, too.
  const [, bracketed, dotted, port = '0'] = /^(?:\[([^\]]*:[^\]]*)\]|([\d.]+))(?::(\d{1,5}))?$/.exec(text) ?? []
  return Number(port) > 65_535 ? undefined : canonicalAddress(bracketed ?? dotted ?? text)
}

/**
 * The one text of an address: IPv4 where an IPv6 address only wraps one, IPv6 by RFC 5952, without a zone.
 *
 * @returns undefined for what is no address; strictly, so `010.0.0.1`, `1.2.3` and `0x7f.1` are none
 */
function canonicalAddress(text: string): string | undefined {
  const kind = isIP(text)
  if (kind !== 6) return kind === 4 ? text : undefined
  const [address = ''] = text.split('%')
  const canonical = new SocketAddress({ address, family: 'ipv6' }).address
  return /^::ffff:([\d.]+)$/.exec(canonical)?.[1] ?? canonical
}

/** A range of IPv4 addresses that are wrapped in IPv6 is one of IPv4. */
function addRange(proxies: BlockList, range: string): void {
  const [text = '', bits] = range.split('/')
  const address = canonicalAddress(text) ?? text
  const isIPv4 = !text.includes(':')
  const prefix = Number(bits ?? (isIPv4 ? 32 : 128))
  if (isIPv4) proxies.addSubnet(text, prefix, 'ipv4')
  else if (!address.includes(':') && prefix >= 96) proxies.addSubnet(address, prefix - 96, 'ipv4')
  else proxies.addSubnet(text, prefix, 'ipv6')
}

const known = Symbol('address')
type Known = FastifyRequest & { [known]: string | undefined }

export default fp(
  async (app: FastifyInstance) => {
    const readAddress = createAddressReader(app.config.AUTH_TRUSTED_PROXIES)
    app.decorateRequest(known, undefined)
    app.decorateRequest('address', {
      getter(this: FastifyRequest) {
        const request = this as Known
        request[known] ??= readAddress(request.socket.remoteAddress, String(request.headers['x-forwarded-for'] ?? ''))
        return request[known]
      },
    })
  },
  { name: 'client-address' },
)
