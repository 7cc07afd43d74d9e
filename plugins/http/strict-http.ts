import { isIPv6 } from 'node:net'
import type { FastifyRequest } from 'fastify'
import { checked } from '../../domain/checks.ts'
import { Refusal } from '../../errors.ts'

/*
 * Requests that HTTP lets a recipient refuse, and that Node's parser accepts. If a proxy reads such a request
 * differently, it may let pass what it should stop. So nothing is repaired, and none of two readings is chosen.
 */

/** Fields that decide something and may come once, each with its bit. */
const once = new Map(
  ['host', 'content-type', 'content-length', 'authorization', 'last-event-id'].map((name, index) => [name, 1 << index]),
)
/** Comparing lengths first spares nearly all comparisons of names. */
const lengths = new Set([...once.keys()].map(({ length }) => length))

/**
 * RFC 3986 §3.2: a name (without a comma, which could separate two hosts), an IPv4 address, or an IPv6 address in
 * brackets; and a port.
 */
const authority = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::(\d{0,5}))?$/
const mostPort = 65_535

const malformed = (detail: string) => new Refusal('malformed_request', { detail })

/**
 * Refuses a request whose header section or target has more than one reading.
 *
 * @returns whether the connection has to be closed after the answer, RFC 9112 §6.1
 * @throws {Refusal} 400 for a field that is repeated (RFC 9110 §5.3), for a Host that is missing, repeated or invalid
 * (RFC 9112 §3.2), for a transfer coding other than chunked (RFC 9112 §6.1), and for a query with a bad
 * percent-encoding
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
 * Refuses a body in a content coding, RFC 9110 §8.4. The field alone is no reason: proxies ask `/verify` with the
 * fields of another request and without its body.
 *
 * @throws {Refusal} 415
 */
export function refuseEncoded({ raw: { headers } }: FastifyRequest): void {
  const { 'content-encoding': codings, 'content-length': length, 'transfer-encoding': transferEncoding } = headers
  if (codings === undefined || (transferEncoding === undefined && !Number(length))) return
  if (codings.split(',').every((coding) => /^[ \t]*(identity)?[ \t]*$/i.test(coding))) return
  throw new Refusal('unsupported_encoding', {
    detail: 'Bodies are read as they are: send this one without a Content-Encoding',
    checks: [checked('content_encoding', 'another', 'identity')],
    headers: { 'accept-encoding': 'identity' },
  })
}

const slash = 0x2f

/** @returns the name of a repeated field: Node joins the values of some, and keeps the first of others */
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

/** Nearly every request has the same. */
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

/** RFC 9112 §3.2.2. Host is not used here, but a proxy may have used either of two that differ. */
function checkAbsoluteForm(url: string, host: string | undefined): void {
  const named = /^https?:\/\/([^/?#]*)/i.exec(url)?.[1]
  if (named === undefined || !isAuthority(named)) throw malformed('The request target is not valid')
  if (host === '') throw malformed('The header field Host is not valid')
}

/** The router refuses a bad path. The parser of queries would keep what it cannot decode. */
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
