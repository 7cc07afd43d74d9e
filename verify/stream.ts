import type { IncomingHttpHeaders } from 'node:http'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { type Http, UnwantedStatus } from './http.ts'

/** The server answers, but not with a stream. */
export class NoStream extends Error {}

/** The server does not let this client follow, which only people can mend. */
export class Refused extends Error {}

export interface StreamReader {
  /** @returns whether it is a sign of life. @throws for what is not understood, which ends the stream */
  onEvent(event: EventSourceMessage): boolean
  /** @param ms that the server asks to wait before the next connection */
  onRetry(ms: number): void
}

/**
 * Reads a stream of server-sent events (WHATWG HTML §9.2) to its end.
 *
 * @param firstEventMs within which the answer and then the first event have to come
 * @param silentMs after which a stream that says nothing is given up
 * @returns when a stream has ended that had begun
 * @throws {NoStream} where there is no stream, or it goes silent; {Refused}; or an error of the network or the reader
 */
export async function readStream(
  http: Http,
  url: URL,
  authorization: string,
  { firstEventMs, silentMs, maxBytes }: { firstEventMs: number; silentMs: number; maxBytes: number },
  { onEvent, onRetry }: StreamReader,
): Promise<void> {
  const response = await http.get(url, { accept: 'text/event-stream', authorization }, firstEventMs)
  // What breaks it shows in its end.
  response.on('error', () => {})
  if (response.statusCode !== 200 || !/^text\/event-stream\b/i.test(response.headers['content-type'] ?? '')) {
    response.destroy()
    if (response.statusCode === 200 || response.statusCode === 406) throw new NoStream('the answer is no stream')
    throw unwanted(response.statusCode, response.headers)
  }
  let hasBegun = false
  let problem: unknown
  const end = (error: unknown) => {
    problem ??= error
    response.destroy()
  }
  const expectWithin = (ms: number) => setTimeout(() => end(new NoStream('the stream says nothing')), ms).unref()
  let timer = expectWithin(firstEventMs)
  const parser = createParser({
    maxBufferSize: maxBytes,
    onEvent(event) {
      if (response.destroyed || !onEvent(event)) return
      hasBegun = true
      clearTimeout(timer)
      timer = expectWithin(silentMs)
    },
    onRetry,
    onError({ type }) {
      if (type === 'max-buffer-size-exceeded') end(new Error('the stream sent an event that is too large'))
    },
  })
  response.setEncoding('utf8').on('data', (chunk: string) => {
    if (response.destroyed) return
    try {
      parser.feed(chunk)
    } catch (error) {
      end(error)
    }
  })
  await new Promise((resolve) => response.once('close', resolve))
  clearTimeout(timer)
  if (problem) throw problem
  if (!hasBegun) throw new Error('the stream ended before it began')
}

/** Words for an answer of the feed that is none. */
export function unwanted(status = 0, headers: IncomingHttpHeaders): Error {
  if (status === 401) {
    return new Refused(
      'the server does not know this client (401): ' +
        'check clientId and clientSecret, and that the client is not disabled',
    )
  }
  if (status === 403)
    return new Refused('this client may not follow revocations (403): it needs the introspection right')
  return new UnwantedStatus(status, headers)
}
