import { elapsedMs, isFuture } from '../../domain/time.ts'
import type { SigningKey } from './key-ring.ts'

/* When a key is published, signs, and goes. Times are milliseconds since the epoch. */

const minuteMs = 60_000
const dayMs = 24 * 60 * minuteMs

/** A new key is published for at least this long before it signs: twice the max-age of the JWKS. */
export const publishLeadMs = 10 * minuteMs
/**
 * One that comes by age is published longer before: not every verifier asks again for an unknown kid, and Istio keeps a
 * JWKS for 20 minutes, AWS API Gateway for two hours.
 */
const earlyMs = (rotationMs: number) => Math.min(dayMs, Math.max(publishLeadMs, rotationMs / 24))
/**
 * A superseded key stays for this long after its last token has expired: clocks differ, and AUTH_ACCESS_TTL may have
 * been longer.
 */
const retirementMarginMs = dayMs

type Times = Pick<SigningKey, 'createdAt' | 'signsFrom'>

/** From when the successor of a key signs, if it is due to be made. @returns undefined while it is not */
export function successorSignsFrom(
  { signsFrom, sealedBy }: Pick<SigningKey, 'signsFrom' | 'sealedBy'>,
  now: number,
  rotationMs: number,
): number | undefined {
  const soonest = now + publishLeadMs
  const ageMs = elapsedMs(signsFrom, now)
  if (ageMs >= rotationMs - earlyMs(rotationMs)) return Math.max(soonest, signsFrom + rotationMs)
  const isUnderOldSecret = sealedBy === 'previous' && ageMs > publishLeadMs
  // Made by a clock that was ahead: it would sign when this one is there, and no other would be made until then.
  return isUnderOldSecret || isFuture(signsFrom - earlyMs(rotationMs), now) ? soonest : undefined
}

/**
 * When a key is removed that others have superseded: counted from the first of them, for where keys change each hour
 * there is always one that has just begun. Algorithms and keys of the operator's come and go back, so that of these
 * only what signs now tells when another was given up.
 *
 * @param signing the key that signs
 * @returns undefined while it has not been superseded
 */
export function retirementOf(
  { createdAt }: Times,
  keys: SigningKey[],
  signing: SigningKey | undefined,
  accessTtlMs: number,
): number | undefined {
  if (!signing || createdAt >= signing.createdAt) return undefined
  const supersededAt = keys
    .filter((key) => key === signing || (key.alg === signing.alg && key.sealedBy !== undefined))
    .filter((key) => key.createdAt > createdAt && key.createdAt <= signing.createdAt)
    .map(({ signsFrom }) => signsFrom)
  return Math.min(...supersededAt) + accessTtlMs + retirementMarginMs
}
