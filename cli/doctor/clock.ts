import { clockSkewMs } from '../../domain/time.ts'
import type { Found } from './check.ts'
import { type Check, failed, needed, ok, skipped, span, warning } from './check.ts'
import { serverOf } from './database.ts'
import type { Facts } from './facts.ts'
import { type Answer, timeOf } from './http.ts'

/** Clocks that somebody keeps are closer than this. */
const keptMs = 5_000

/** @param aheadMs how far the other clock is ahead of ours */
export function judgeClock(aheadMs: number, whose: string): Found {
  const awayMs = Math.abs(aheadMs)
  if (awayMs <= keptMs) return ok(`${whose} is ${awayMs < 1000 ? 'less than a second' : span(awayMs)} away`)
  const seen = `${whose} is ${span(awayMs)} ${aheadMs > 0 ? 'ahead' : 'behind'}`
  const advice = 'run chrony or systemd-timesyncd on both machines'
  return awayMs <= clockSkewMs
    ? warning(seen, 'the clock', advice)
    : failed(`${seen}: tokens are refused, or live too long`, 'the clock', advice)
}

/** @returns skipped where an answer has no time */
export function judgeDate(answer: Answer, whose: string): Found {
  const told = timeOf(answer)
  if (Number.isNaN(told)) return skipped('the answer has no Date')
  // On average it is half a second later than it tells.
  return judgeClock(told + 500 - answer.atMs, whose)
}

/** This machine's clock beside others'. */
export const clock: Check<Facts>[] = [
  {
    id: 'clock.store',
    async find(facts) {
      if (facts.place().kind === 'lmdb') return skipped('the embedded store has no clock of its own')
      return judgeClock((await serverOf(facts)).aheadMs, "the database's")
    },
  },
  {
    id: 'clock.issuer',
    find: async ({ issuer }) => judgeDate(await needed(issuer(), 'issuer'), "the issuer's"),
  },
]
