export interface Failures {
  count: number
  lastAt: number
  /** whose count it is, where many share the row one after the other */
  tag?: string
}

/** A count without a failure for this long is forgotten. */
export const failuresLastMs = 24 * 3_600_000

/**
 * Where failures are counted. With a `tag`, the key is a slot that others use as well, and a count is that of one tag
 * only.
 */
export interface FailureKey {
  key: string
  tag?: string
}

/**
 * Which rows are kept for their tag when another comes: those with at least `count` failures, the last of them from
 * `since` to `until`.
 */
export interface Held {
  count: number
  since: number
  until: number
}

export const noneHeld: Held = { count: Number.MAX_SAFE_INTEGER, since: 0, until: 0 }

export const isHeld = ({ count, lastAt }: Failures, held: Held): boolean =>
  count >= held.count && lastAt >= held.since && lastAt <= held.until
