import { BlockList, isIP, type Socket, SocketAddress } from 'node:net'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyRequest {
    /** the address that the request comes from, in canonical form; see `createAddressReader` */
    readonly address: string
  }
}

/** No chain of proxies is longer. Of more members, the last that was read counts. */
const mostHops = 32
/** In characters: room for an address with port, brackets, quotes and zone. */
const longestMember = 128

/**
 * Makes a function that finds the address of a request: the peer of the socket or, behind a trusted proxy, the
 * rightmost address in `X-Forwarded-For` that is not a trusted proxy. Everything to the left of it is only the client's
 * claim, and is ignored.
 *
 * @param trusted addresses and CIDR ranges
 * @returns a function of the peer and the header to an address in canonical form. It is the peer's where the header has
 * no address in the decisive place: throttling by a text that a client can vary would count nothing
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

/** Reads an address as proxies write it: bare, quoted, with a port, IPv6 also in brackets. */
function readMember(member: string): string | undefined {
  if (member.length > longestMember) return undefined
  const text = /^"(.*)"$/.exec(member)?.[1]?.trim() ?? member
  // Without brackets an IPv6 address has no port, which could not be told from its last group.
  const [, bracketed, dotted, port = '0'] = /^(?:\[([^\]]*:[^\]]*)\]|([\d.]+))(?::(\d{1,5}))?$/.exec(text) ?? []
  return Number(port) > 65_535 ? undefined : canonicalAddress(bracketed ?? dotted ?? text)
}

/**
 * The canonical form of an address: IPv4 also for an IPv4-mapped IPv6 address, IPv6 by RFC 5952 and without a zone.
 *
 * @returns undefined for any other text, `010.0.0.1`, `1.2.3` and `0x7f.1` among them
 */
function canonicalAddress(text: string): string | undefined {
  const kind = isIP(text)
  if (kind !== 6) return kind === 4 ? text : undefined
  const [address = ''] = text.split('%')
  const canonical = new SocketAddress({ address, family: 'ipv6' }).address
  return /^::ffff:([\d.]+)$/.exec(canonical)?.[1] ?? canonical
}

/** The peer of a socket on which no request could be read, in canonical form. */
export const addressOfSocket = ({ remoteAddress = '' }: Socket): string =>
  canonicalAddress(remoteAddress) ?? remoteAddress

/** A range of IPv4-mapped IPv6 addresses becomes one of IPv4. */
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
