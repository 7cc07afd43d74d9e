import { isIPv6 } from 'node:net'
import type { FastifyRequest } from 'fastify'
import { Refusal } from '../../errors.ts'

/*
 * What HTTP leaves to the recipient to refuse, and Node's parser lets pass. A proxy that reads such a request in another way than
 * this service does is how guards are passed, so nothing here is repaired and nothing is chosen.
 */

/** Fields that may come once and decide something, each with a bit of its own. */
const once = new Map(
  ['host', 'content-type', 'content-length', 'authorization', 'last-event-id'].map((name, index) => [name, 1 << index]),
)
/** A look at the length of a name spares nearly all comparisons. */
const lengths = new Set([...once.keys()].map(({ length }) => length))

/** RFC 3986 §3.2: a name (of which a comma would make two hosts), an IPv4 address, or an IPv6 address in brackets; and a port. */
const authority = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::(\d{0,5}))?$/
const mostPort = 65_535

const malformed = (detail: string) => new Refusal('malformed_request', { detail })

/**
 * Refuses a request whose header section or target has more than one reading.
 *
 * @returns whether the connection has to be closed after the answer, RFC 9112 §6.1
 * @throws {Refusal} 400 for a field that is repeated (RFC 9110 §5.3), for a Host that is missing, repeated or invalid (RFC 9112 §3.2),
 * for a transfer coding other than chunked (RFC 9112 §6.1), and for a query with a bad percent-encoding
 */
export function refuseAmbiguous({ raw }: FastifyRequest): boolean {
  const { headers, rawHeaders, httpVersion, method, url = '' } = raw
  const repeated = repeatedField(rawHeaders)
  if (repeated !== undefined) throw malformed(`The header field ${repeated} is repeated`)
  checkHost(headers.host, httpVersion)
  if (url.charCodeAt(0) !== slash && !(url === '*' && method === 'OPTIONS')) checkAbsoluteForm(url, headers.host)
  checkQuery(url)

  const { 'transfer-encoding': transferEncoding } = headers
  if (transferEncoding !== undefined && transferEncoding.toLowerCase() !== 'chunked') {
    throw malformed('A transfer coding other than chunked is not understood')
  }
  return transferEncoding !== undefined && httpVersion === '1.0'
}

/**
 * Proxies ask `/verify` with the fields of another request and without its body, so a field alone is nothing to refuse.
 *
 * @throws {Refusal} 415 for a body in a content coding, RFC 9110 §8.4: none is undone here
 */
export function refuseEncoded({ raw: { headers } }: FastifyRequest): void {
  const { 'content-encoding': codings, 'content-length': length, 'transfer-encoding': transferEncoding } = headers
  if (codings === undefined || (transferEncoding === undefined && !Number(length))) return
  if (codings.split(',').every((coding) => /^[ \t]*(identity)?[ \t]*$/i.test(coding))) return
  throw new Refusal('unsupported_encoding', {
    detail: 'Bodies are read as they are: send this one without a Content-Encoding',
    headers: { 'accept-encoding': 'identity' },
  })
}

const slash = 0x2f

/** @returns the name of a field that came more than once; Node joins some of them, and keeps the first of others */
function repeatedField(rawHeaders: string[]): string | undefined {
  let seen = 0
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const field = rawHeaders[index] as string
    if (!lengths.has(field.length)) continue
    const name = field.toLowerCase()
    const bit = once.get(name) ?? 0
    if ((seen & bit) !== 0) return name
    seen |= bit
  }
  return undefined
}

/** The one that nearly every request has. */
let lastGoodHost: string | undefined

function checkHost(host: string | undefined, httpVersion: string): void {
  if (host !== undefined && host === lastGoodHost) return
  // HTTP/1.0 has no Host.
  if (!host && httpVersion === '1.0') return
  if (host === undefined) throw new Refusal('invalid_request', { detail: 'The header field Host is missing' })
  if (!isAuthority(host)) throw malformed('The header field Host is not valid')
  lastGoodHost = host
}

function isAuthority(text: string): boolean {
  const [whole, ipv6, port = ''] = authority.exec(text) ?? []
  return whole !== undefined && (ipv6 === undefined || isIPv6(ipv6)) && Number(port) <= mostPort
}

/** RFC 9112 §3.2.2. No Host is used for anything here; of two that differ, a proxy may have used the other. */
function checkAbsoluteForm(url: string, host: string | undefined): void {
  const named = /^https?:\/\/([^/?#]*)/i.exec(url)?.[1]
  if (named === undefined || !isAuthority(named)) throw malformed('The request target is not valid')
  if (host === '') throw malformed('The header field Host is not valid')
}

/** The router reads the path; a query is read by a parser that keeps what it cannot decode. */
function checkQuery(url: string): void {
  const start = url.indexOf('?')
  if (start < 0 || !url.includes('%', start)) return
  try {
    if (!decodeURIComponent(url.slice(start + 1)).includes('\0')) return
  } catch {
    throw new Refusal('malformed_url', { detail: 'The query has a bad percent-encoding' })
  }
  throw new Refusal('malformed_url', { detail: 'The query holds a NUL' })
}
