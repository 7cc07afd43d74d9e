import type { RevocationSet } from '../domain/revocation.ts'
import { backOffMs, deferred, type Http, retryAfterMs, Timeout, UnwantedStatus, waitFor, wordsOf } from './http.ts'
import { readNews } from './news.ts'
import { lostMs, type Settings } from './options.ts'
import { NoStream, Refused, readStream, unwanted } from './stream.ts'

/** `connecting` until the first good answer, `lost` after 15 s without one. */
export type FeedState = 'connecting' | 'following' | 'polling' | 'lost'

export const feedLimits = {
  /** how often it is polled, and looked whether it is lost */
  tickMs: 1_000,
  /** The first event comes at once; when it does not, something in between holds the stream back. */
  firstEventMs: 3_000,
  /** two heartbeats, and some */
  silentMs: 11_000,
  requestMs: 5_000,
  backOffMs: [500, 30_000] as readonly [number, number],
  pollBackOffMs: [1_000, 10_000] as readonly [number, number],
  /** while it is polled, how often a stream is tried */
  streamAgainMs: 60_000,
  /** after a 401 or 403, which only people can mend */
  refusedAgainMs: 30_000,
  /** of one answer or event; a server before 0.3.0 sends about 300,000 revocations in one */
  maxBytes: 64 * 1024 * 1024,
}

const maxCursorLength = 256
const forgetEveryMs = 10_000
const longestRetryMs = 60_000

/**
 * Follows what the server revokes: by its stream, or by polling each second while there is none. Nothing is missed:
 * both start at the cursor of the last news.
 *
 * @param onKeyWithdrawn is told at once which key verifies nothing any more
 */
export function createFeed(
  settings: Settings,
  http: Http,
  { revocations, onKeyWithdrawn }: { revocations: RevocationSet; onKeyWithdrawn: (kid: string) => void },
  limits = feedLimits,
) {
  const { revocationsUrl, authorization = '', now, tell } = settings
  const startedMs = performance.now()
  let isClosed = false
  let cursor: string | undefined
  /** when the server was heard last, on two clocks; see `silence` */
  let heard: { uptimeMs: number; now: number } | undefined
  /** since it was heard last */
  let failure: unknown
  let toldState: FeedState = 'connecting'
  let toldFailure: 'feed.failed' | 'feed.refused' | undefined
  const toldKinds = new Set<string>()
  /** by the first answer, whatever it is */
  const answered = deferred()
  /** when everything that is in force is known */
  const caughtUp = deferred()

  let streamTimer: NodeJS.Timeout | undefined
  let streamFailures = 0
  let retryMs = 1_000

  let isPolling = false
  let isAsking = false
  let pollFailures = 0
  let pollAtMs = 0

  /**
   * Milliseconds since the server was heard, the larger of two clocks: one stands still while the machine sleeps, the
   * other can be set, and neither may make an old list look fresh.
   */
  const silence = () =>
    heard ? Math.max(performance.now() - heard.uptimeMs, now() - heard.now) : performance.now() - startedMs

  function state(): FeedState {
    if (silence() >= lostMs) return 'lost'
    if (!heard) return 'connecting'
    return isPolling ? 'polling' : 'following'
  }

  function tellState(): void {
    const current = state()
    if (current === toldState || current === 'connecting') return
    toldState = current
    if (current === 'following')
      tell({ type: 'feed.following', level: 'info', message: 'the revocations are followed by a stream' })
    if (current === 'polling') {
      const message =
        'a stream of revocations does not get through, perhaps for a proxy that buffers: they are asked for each second'
      tell({ type: 'feed.polling', level: 'warn', message })
    }
    if (current === 'lost') {
      const why = failure ? `: ${wordsOf(failure)}` : ''
      const message = `nothing was heard of revocations for ${Math.round(silence() / 1000)} s${why}`
      tell({ type: 'feed.lost', level: 'error', message })
    }
  }

  function failed(error: unknown): void {
    if (isClosed) return
    failure = error
    answered.resolve()
    const type = error instanceof Refused ? 'feed.refused' : 'feed.failed'
    // A refusal has to be mended by people: no other failure hides it.
    if (toldFailure === type || toldFailure === 'feed.refused') return
    toldFailure = type
    if (type === 'feed.refused') tell({ type, level: 'error', message: wordsOf(error) })
    else
      tell({ type, level: 'warn', message: `the revocations could not be had, and are tried again: ${wordsOf(error)}` })
  }

  function moveTo(position: unknown): void {
    if (typeof position === 'string' && position !== '' && position.length <= maxCursorLength) cursor = position
  }

  /** The server says that nothing else is known to it. */
  function hear(position: unknown): void {
    moveTo(position)
    heard = { uptimeMs: performance.now(), now: now() }
    failure = undefined
    toldFailure = undefined
    answered.resolve()
    caughtUp.resolve()
  }

  /**
   * Takes news.
   *
   * @returns whether there is more of them: they are a page then, and not all is known before the last
   * @throws {Error} when they were not understood: they are asked for again then, for the cursor stays
   */
  function take(json: string, position?: string): boolean {
    let message: { cursor?: unknown } | null
    try {
      message = JSON.parse(json)
    } catch {
      throw new Error('the feed sent something that is no JSON')
    }
    const { entries, unknownKinds, more } = readNews(message, now())
    for (const entry of entries) {
      revocations.add(entry, performance.now() + entry.lifeMs)
      if (entry.kind === 'key') onKeyWithdrawn(entry.id)
    }
    for (const kind of unknownKinds) {
      if (toldKinds.has(kind) || toldKinds.size > 10) continue
      toldKinds.add(kind)
      tell({
        type: 'feed.unknown_kind',
        level: 'warn',
        message: `a later version is needed for revocations of the kind ${kind.slice(0, 32)}`,
      })
    }
    const next = position ?? message?.cursor
    if (more) moveTo(next)
    else hear(next)
    return more
  }

  function address(): URL {
    const url = new URL(revocationsUrl)
    if (cursor !== undefined) url.searchParams.set('since', cursor)
    return url
  }

  /** Tries a stream, follows it to its end, and comes again. */
  async function connect(): Promise<void> {
    let againMs: number
    try {
      let hasBegun = false
      await readStream(http, address(), authorization, limits, {
        onEvent({ event, id, data }) {
          if (event === 'revocations') take(data, id)
          else if (event === 'heartbeat' && hasBegun) hear(id)
          else return false
          hasBegun = true
          streamFailures = 0
          // A proxy may let the first event through and hold back the others; only a heartbeat shows that they flow.
          if (event === 'heartbeat') isPolling = false
          tellState()
          return true
        },
        onRetry(ms) {
          retryMs = Math.min(longestRetryMs, Math.max(limits.backOffMs[0], ms))
        },
      })
      againMs = retryMs * (0.5 + Math.random() / 2)
    } catch (error) {
      streamFailures += 1
      againMs = waitAfter(
        error,
        error instanceof NoStream ? limits.streamAgainMs : backOffMs(streamFailures, limits.backOffMs),
      )
      // Only the stream may fail: a proxy holds it back, or the server has too many.
      if (error instanceof NoStream || error instanceof Timeout || error instanceof UnwantedStatus) {
        isPolling = true
        void poll()
      } else failed(error)
    }
    if (!isClosed) streamTimer = setTimeout(connect, againMs).unref()
  }

  const waitAfter = (error: unknown, usualMs: number) =>
    Math.max(error instanceof Refused ? limits.refusedAgainMs : usualMs, retryAfterMs(error))

  /** Asks for the news, to the end of them. */
  async function poll(): Promise<void> {
    if (isAsking || isClosed) return
    isAsking = true
    try {
      let isMore = true
      while (isMore) {
        const { status, headers, text } = await http.getText(
          address(),
          { accept: 'application/json', authorization },
          limits.requestMs,
          limits.maxBytes,
        )
        if (status !== 200) throw unwanted(status, headers)
        isMore = take(text)
      }
      pollFailures = 0
      tellState()
    } catch (error) {
      pollFailures += 1
      pollAtMs = performance.now() + waitAfter(error, backOffMs(pollFailures, limits.pollBackOffMs))
      failed(error)
    } finally {
      isAsking = false
    }
  }

  let forgottenMs = startedMs
  const ticker = setInterval(() => {
    const uptimeMs = performance.now()
    if (isPolling && uptimeMs >= pollAtMs) void poll()
    if (uptimeMs - forgottenMs >= forgetEveryMs) {
      forgottenMs = uptimeMs
      revocations.forgetExpired(uptimeMs, Number.POSITIVE_INFINITY)
    }
    tellState()
  }, limits.tickMs).unref()
  void connect()

  return {
    get state() {
      return state()
    },
    /** milliseconds since the server was heard; undefined when it never was */
    get silenceMs() {
      return heard && silence()
    },
    get failure() {
      return failure
    },
    /** Waits for the first answer, whatever it is; undefined when there is nothing to wait for. */
    firstAnswer(): Promise<boolean> | undefined {
      return heard || failure ? undefined : waitFor(answered.promise, limits.firstEventMs + limits.requestMs)
    },
    /** Waits until everything that is in force is known, for so long. @returns whether it is */
    ready: (ms: number): Promise<boolean> => waitFor(caughtUp.promise, ms),
    close(): void {
      isClosed = true
      clearInterval(ticker)
      clearTimeout(streamTimer)
    },
  }
}
