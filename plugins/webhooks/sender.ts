import { setImmediate } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { version } from '../../config/version.ts'
import type { AuditRow } from '../../domain/audit.ts'
import { elapsedMs } from '../../domain/time.ts'
import { isDue, type Position, retriesMs, stateOf, type WebhookState } from '../../domain/webhook.ts'
import type { AuditPage } from '../../stores/tables/audit.ts'
import { FetchFailed } from '../run/guarded-fetch.ts'
import { createHolding, type Stored } from '../run/positions.ts'
import type { Endpoint } from './endpoints.ts'
import { messageOf } from './message.ts'
import type { Positions } from './positions.ts'
import { sign } from './signature.ts'

/** Between two looks at what there is to send. */
export const pollMs = 1000
/** After the store did not answer. */
const storePauseMs = 5_000
const answerMs = 15_000
const rowsPerPage = 256
/** What was delivered since the last save is delivered again, should the process be killed. */
const saveMs = 1000
/** A process that sends saves its position meanwhile: within one answer and a save. */
const abandonedMs = 2 * answerMs

type Parts = Pick<FastifyInstance, 'store' | 'guardedFetch' | 'events' | 'log' | 'now' | 'uptimeMs'> & {
  positions: Positions
  /** at the end of the app: nothing more is sent, and a moment later what is under way is given up */
  ending: { readonly isStopping: boolean; signal: AbortSignal }
  /** counts an attempt */
  onAttempt(isDelivered: boolean): void
}

/**
 * Sends the events that an endpoint wants, from the audit rows: each until it is taken, and none before the one before.
 * Of all processes on a store one sends at a time: its name is in the position, and each save of that is a
 * compare-and-set, so that one that was thought to be gone stops at its next.
 */
export function createSender(parts: Parts, endpoint: Endpoint) {
  const { store, guardedFetch, events, log, now, uptimeMs, positions, ending, onAttempt } = parts
  const { id, url, secrets } = endpoint
  const holding = createHolding({ uptimeMs }, abandonedMs)
  const { own } = holding
  let state: WebhookState = 'active'
  let oldest: number | undefined
  let running: Promise<void> | undefined

  const isToSend = ({ from = 0, had }: Position, row: AuditRow) =>
    row.at >= from && endpoint.wants(row.event) && !had.includes(row.id)

  /** The time of the oldest row of a page that it has not had. */
  const waitingSince = (position: Position, rows: AuditRow[]) =>
    position.failing?.at ?? rows.find((row) => isToSend(position, row))?.at

  /** One look at what there is to send, and sending it. */
  async function round(): Promise<void> {
    const stored = await positions.findOrMake(id)
    const { position } = stored
    const isByAnother = holding.isByAnother(stored)
    state = stateOf(position)
    oldest = waitingSince(position, [])
    if (!isDue(position, now())) return
    const page = await store.auditSince(position.cursor, rowsPerPage)
    oldest = waitingSince(position, page.rows)
    if (page.rows.length > 0 && !isByAnother) await sendAll(stored, page)
  }

  /** Sends page after page, until there is no more, one is not taken, or another process is at it. */
  async function sendAll(stored: Stored<Position>, first: AuditPage): Promise<void> {
    let current: Stored<Position> | undefined = stored
    let savedAtMs = Number.NEGATIVE_INFINITY
    /** @returns whether this process still is the one that sends */
    const save = async (position: Position): Promise<boolean> => {
      current = current && (await positions.replace(id, current, position))
      savedAtMs = uptimeMs()
      return current !== undefined
    }
    let position: Position = { ...stored.position, holder: own }
    if (!(await save(position))) return
    for (let page = first; ; page = await store.auditSince(position.cursor, rowsPerPage)) {
      for (const row of page.rows) {
        if (!isToSend(position, row)) continue
        const failure = ending.isStopping ? stopped : await deliver(row)
        if (failure === stopped) return void (await save({ ...position, holder: undefined }))
        if (failure) return fail(save, position, row, failure)
        const had = [...position.had, row.id]
        position = { ...position, had, failures: 0, failing: undefined, deliveredAt: now() }
        if (uptimeMs() - savedAtMs > saveMs && !(await save(position))) return
      }
      const ids = new Set(page.rows.map((row) => row.id))
      position = { ...position, cursor: page.cursor, had: position.had.filter((id) => !ids.has(id)) }
      if (!page.more || ending.isStopping) {
        if (!page.more) delete position.from
        return void (await save({ ...position, holder: undefined }))
      }
      if (uptimeMs() - savedAtMs > saveMs && !(await save(position))) return
      await setImmediate()
    }
  }

  /** @returns undefined where the endpoint has taken it */
  async function deliver(row: AuditRow): Promise<Failure | typeof stopped | undefined> {
    const body = messageOf(row)
    const headers = {
      'content-type': 'application/json',
      'user-agent': `Latchkey/${version}`,
      ...sign(secrets, { id: row.id, at: now(), body }),
    }
    oldest = row.at
    let failure: Failure | undefined
    try {
      const asked = { method: 'POST', headers, body, withinMs: answerMs, signal: ending.signal } as const
      const { status } = await guardedFetch(url, asked)
      if (status < 200 || status > 299) failure = { why: `it answered ${status}`, isGone: status === 410 }
    } catch (error) {
      if (!(error instanceof FetchFailed)) throw error
      if (ending.signal.aborted) return stopped
      failure = { why: error.message, isGone: false }
    }
    onAttempt(failure === undefined)
    return failure
  }

  /** Has the row tried again later, or disables the endpoint. */
  async function fail(save: Save, position: Position, row: AuditRow, { why, isGone }: Failure): Promise<void> {
    const failures = position.failures + 1
    const pauseMs = isGone ? undefined : retriesMs[failures - 1]
    const failing = { at: row.at, retryAt: now() + (pauseMs ?? 0), why }
    const next = { ...position, holder: undefined, failures, failing }
    const isSaved = await save(pauseMs === undefined ? { ...next, disabledAt: now() } : next)
    if (!isSaved) return
    const named = { webhook: id, host: url.host }
    if (pauseMs === undefined) events.emit({ log }, 'webhook.disabled', { ...named, reason: why })
    else log.warn({ ...named, reason: why, failures, retry_in_ms: pauseMs }, 'a webhook did not take an event')
  }

  return {
    endpoint,
    /** A round. That the store did not answer is told of once in a while. @returns the pause until the next */
    async round(): Promise<number> {
      try {
        running ??= round().finally(() => {
          running = undefined
        })
        await running
        return pollMs
      } catch (error) {
        log.warn({ err: error, webhook: id }, 'a webhook waits for the store')
        return storePauseMs
      }
    },
    /** By the last round of this process. @property behindMs how long an event has waited for it */
    get seen() {
      return { state, behindMs: oldest === undefined ? 0 : elapsedMs(oldest, now()) }
    },
    /** By the store. @returns undefined where no service has begun with it yet */
    async look(): Promise<{ position: Position; behindMs: number } | undefined> {
      const stored = await positions.find(id)
      if (!stored) return undefined
      const { position } = stored
      const since = waitingSince(position, (await store.auditSince(position.cursor, rowsPerPage)).rows)
      return { position, behindMs: since === undefined ? 0 : elapsedMs(since, now()) }
    },
  }
}

const stopped = 'stopped'
type Save = (position: Position) => Promise<boolean>
interface Failure {
  /** for the operator */
  why: string
  isGone: boolean
}
