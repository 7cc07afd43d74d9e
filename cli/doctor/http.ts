import { connect, type PeerCertificate } from 'node:tls'

/** Longest wait for an answer. */
const answerMs = 2_500
/** More of a body is not read: anybody may be at a URL. */
const maxBodyChars = 262_144

/** An answer of a service. */
export interface Answer {
  status: number
  headers: Headers
  text: string
  /** the text as JSON; undefined where it is none */
  // biome-ignore lint/suspicious/noExplicitAny: what it holds is looked at by whoever asked
  json: any
  /** from the request to the end of the answer */
  ms: number
  /** milliseconds since the epoch, half way */
  atMs: number
}

/** Nothing answered. The message says why, in words; `code` is that of Node or OpenSSL. */
export class NoAnswer extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

export interface Question extends RequestInit {
  withinMs?: number
  /** What is enough of a body that does not end by itself. */
  until?: string
}

/** Asks without following redirects. @throws {NoAnswer} */
export async function ask(url: string, { withinMs = answerMs, until, ...request }: Question = {}): Promise<Answer> {
  const startedAt = performance.now()
  const beganMs = Date.now()
  try {
    const response = await fetch(url, { redirect: 'manual', ...request, signal: AbortSignal.timeout(withinMs) })
    const text = await beginningOf(response, until)
    const ms = performance.now() - startedAt
    const { status, headers } = response
    return { status, headers, text, json: parse(text), ms, atMs: beganMs + ms / 2 }
  } catch (error) {
    throw noAnswer(error, withinMs)
  }
}

async function beginningOf({ body }: Response, until: string | undefined): Promise<string> {
  let text = ''
  if (!body) return text
  const decoder = new TextDecoder()
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true })
    if (text.length > maxBodyChars || (until !== undefined && text.includes(until))) break
  }
  return text
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const words: Record<string, string> = {
  ECONNREFUSED: 'nothing listens there',
  ENOTFOUND: 'the name has no address',
  EAI_AGAIN: 'the name could not be looked up',
  ECONNRESET: 'the connection was cut',
  UND_ERR_SOCKET: 'the connection was cut',
  CERT_HAS_EXPIRED: 'the certificate has expired',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'the certificate is self-signed',
  SELF_SIGNED_CERT_IN_CHAIN: 'the certificate is of an authority that is not trusted here',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'the certificate is of an authority that is not trusted here',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'the certificate is of an authority that is not trusted here',
  ERR_TLS_CERT_ALTNAME_INVALID: 'the certificate is for another name',
}

/** Whether a failure is one of the certificate, and not of the way there. */
export const isOfCertificate = (code: string): boolean => /CERT|VERIFY|SELF_SIGNED/.test(code)

function noAnswer(error: unknown, withinMs: number): NoAnswer {
  const { name, cause, message } = error as Error & { cause?: NodeJS.ErrnoException & { errors?: Error[] } }
  if (name === 'TimeoutError') return new NoAnswer('TIMEOUT', `no answer within ${withinMs / 1000} s`)
  // Of a name with several addresses, the first that failed.
  const { code, message: why = message } = (cause?.errors?.[0] ?? cause ?? {}) as NodeJS.ErrnoException
  return new NoAnswer(code ?? name, words[code ?? ''] ?? why)
}

/** A certificate as it was shown, trusted or not. */
export interface Certificate {
  validToMs: number
  issuer: string
}

/** Looks at the certificate of an https URL. @throws {NoAnswer} */
export function certificateOf(url: string): Promise<Certificate> {
  const { hostname, port } = new URL(url)
  const host = hostname.replace(/^\[|\]$/g, '')
  return new Promise((resolve, reject) => {
    // It is looked at, and nothing is sent: that it is trusted is what `ask` checks.
    const socket = connect({ host, port: Number(port || 443), servername: host, rejectUnauthorized: false })
    socket.setTimeout(answerMs, () => socket.destroy(new NoAnswer('TIMEOUT', 'no answer')))
    socket.once('secureConnect', () => {
      const { valid_to, issuer } = socket.getPeerCertificate() as PeerCertificate
      socket.destroy()
      resolve({ validToMs: Date.parse(valid_to), issuer: String(issuer?.O ?? issuer?.CN ?? 'nobody') })
    })
    socket.once('error', (error) =>
      reject(error instanceof NoAnswer ? error : noAnswer({ name: 'Error', cause: error }, answerMs)),
    )
  })
}

/** The time that an answer tells, in whole seconds; a proxy's cache tells for how long it has had it. NaN without. */
export const timeOf = ({ headers }: Answer): number =>
  Date.parse(headers.get('date') ?? '') + Number(headers.get('age') ?? 0) * 1000

/** Whether an answer is that of Prometheus's text format. */
export const isMetrics = ({ status, text }: Answer): boolean => status === 200 && /^latchkey_|^# HELP/m.test(text)

/** Whether a URL leads to this machine only. */
export const isLoopback = (url: string): boolean =>
  /^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(new URL(url).hostname)

/** A URL without the slash at its end. */
export const bare = (url: string): string => url.replace(/\/$/, '')
