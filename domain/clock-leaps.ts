import { clockSkewMs } from './time.ts'

/** A course that a clock was on: it went as time does. */
interface Course {
  /** the time that it shows less the uptime */
  offset: number
  /** the earliest and the latest time that it has shown, and the last: it may be put right by a little */
  from: number
  latest: number
  to: number
  /** uptime at `to` */
  atMs: number
}

/** A clock that was further ahead than this, and is set back, has nothing remembered for longer. */
const longestBackMs = 24 * 3_600_000

/**
 * Watches a clock for leaps. One that is set back shows times again that it has shown before: tokens of then would be
 * alive anew, after their revocations have been forgotten; and tokens of a clock that was ahead become alive later.
 *
 * @param uptimeMs on a clock that nobody sets @param rememberedMs how long revocations are remembered
 */
export function createLeapWatch(now: () => number, uptimeMs: () => number, rememberedMs: number) {
  let course: Course = {
    offset: now() - uptimeMs(),
    from: Number.NEGATIVE_INFINITY,
    latest: now(),
    to: now(),
    atMs: uptimeMs(),
  }
  /** courses that were left not long ago */
  let left: Course[] = []
  let behindMs = 0
  let behindUntilMs = 0

  function leap(at: number, uptime: number): void {
    const offset = at - uptime
    if (offset < course.offset) {
      behindMs = Math.min(longestBackMs, Math.max(uptime < behindUntilMs ? behindMs : 0, course.offset - offset))
      behindUntilMs = uptime + behindMs + rememberedMs
    }
    left = [...left, course].filter(({ atMs }) => uptime - atMs <= rememberedMs)
    // Put right again: what others have made meanwhile is as old as it says.
    const before = left.find((one) => Math.abs(one.offset - offset) <= clockSkewMs)
    left = left.filter((one) => one !== before)
    course = before ?? { offset, from: at, latest: at, to: at, atMs: uptime }
  }

  function look(): number {
    const at = now()
    const uptime = uptimeMs()
    if (Math.abs(at - uptime - course.offset) > clockSkewMs) leap(at, uptime)
    course.offset = at - uptime
    course.from = Math.min(course.from, at)
    course.latest = Math.max(course.latest, at)
    course.to = at
    course.atMs = uptime
    return at
  }

  return {
    /** The time that the clock shows. Whoever asks for it looks for leaps. */
    now: look,
    /**
     * Whether what was made at a time of this clock may have been made within as long: not only by what the clock says
     * now, but as time has passed.
     */
    mayBeWithin(at: number, lastMs: number): boolean {
      look()
      if (at >= course.from) return true
      return left.some(
        ({ from, latest, to, atMs }) =>
          at >= Math.max(from, to - lastMs + (uptimeMs() - atMs)) && at <= latest + clockSkewMs,
      )
    },
    /** By how much longer revocations are to be remembered than their life. */
    behindMs: (): number => (uptimeMs() < behindUntilMs ? behindMs : 0),
  }
}
