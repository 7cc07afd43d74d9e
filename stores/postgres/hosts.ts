/**
 * Takes a URL with several hosts apart, into one URL each. `pg` reads one host only; the comma list is libpq's.
 */
export function splitHosts(url: string): string[] {
  const [, scheme, authority = '', rest] = url.match(/^([a-z]+:\/\/)([^/?#]*)(.*)$/s) ?? []
  if (scheme === undefined) return [url]
  const hostsAt = authority.lastIndexOf('@') + 1
  return authority
    .slice(hostsAt)
    .split(',')
    .map((host) => `${scheme}${authority.slice(0, hostsAt)}${host}${rest}`)
}
