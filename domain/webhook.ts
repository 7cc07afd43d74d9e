/** How far an endpoint has been told of events, and how that goes: one record in the store, which all processes share. */
export interface Position {
  /** of the audit rows; undefined for the beginning */
  cursor?: string | undefined
  /** rows of before that are passed over, until the end is reached: where `resend` begins */
  from?: number | undefined
  /** ids of rows behind the cursor that it has had */
  had: string[]
  /** the process that sends just now */
  holder?: string | undefined
  /** how often the row that is to be sent next was not taken */
  failures: number
  /** of that row: its time, when it is tried again, and why it was not taken last */
  failing?: { at: number; retryAt: number; why: string } | undefined
  deliveredAt?: number | undefined
  disabledAt?: number | undefined
}

const [second, minute, hour] = [1000, 60_000, 3_600_000]
/** Pauses before an event is sent again. When the last of these tries has failed, the endpoint is disabled. */
export const retriesMs = [5 * second, minute, 5 * minute, 30 * minute, 2 * hour, 10 * hour]

/** Whether it may be sent to. A next try further away than its pause was set by a clock that was wrong. */
export function isDue({ disabledAt, failing, failures }: Position, now: number): boolean {
  if (disabledAt !== undefined || !failing) return disabledAt === undefined
  const waitMs = failing.retryAt - now
  return waitMs <= 0 || waitMs > (retriesMs[failures - 1] ?? 0)
}

export const webhookStates = ['active', 'retrying', 'disabled'] as const
export type WebhookState = (typeof webhookStates)[number]

export const stateOf = ({ disabledAt, failing }: Position): WebhookState =>
  disabledAt !== undefined ? 'disabled' : failing ? 'retrying' : 'active'
