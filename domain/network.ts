import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/**
 * The network that an address is in.
 *
 * @param address in canonical form
 * @param bits how much of an IPv4 address; of IPv6 it is always the /64, which any one host may have to itself
 */
export function networkOf(address: string, bits: 24 | 32): string {
  if (!isIP(address) || (bits === 32 && !address.includes(':'))) return address
  const bytes = ipaddr.parse(address).toByteArray()
  return bytes.slice(0, bytes.length === 4 ? bits / 8 : 8).join('.')
}

/** Whether a host of a URL is this machine: what a browser sends there leaves it for nobody else. */
export const isLoopbackHost = (host: string): boolean =>
  host === 'localhost' || host.endsWith('.localhost') || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host)

/** The /24 or /64 of an address as people write it. @param address in canonical form */
export function networkText(address: string): string {
  const bits = { 0: 0, 4: 24, 6: 64 }[isIP(address) as 0 | 4 | 6]
  if (bits === 0) return address
  const { IPv4, IPv6 } = ipaddr
  return `${(bits === 24 ? IPv4 : IPv6).networkAddressFromCIDR(`${address}/${bits}`)}/${bits}`
}
