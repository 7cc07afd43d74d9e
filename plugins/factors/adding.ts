import type { Amr, Authentication } from '../../domain/authentication.ts'
import { checked } from '../../domain/checks.ts'
import { authenticationOf } from '../../domain/session.ts'
import { Refusal } from '../../errors.ts'
import type { Raised } from '../../stores/tables/factors.ts'
import { mostFactors } from './factors.ts'
import type { Fresh } from './fresh.ts'

/* What adding a factor to one's own account takes, whatever its kind. */

/** Shows that a sign-in is fresh and of the highest level, as it is now: `requireFresh` of the app. */
export type Prove = () => Promise<Fresh>

/** @throws {Refusal} 409 where the user has as many factors as anybody may */
export function refuseTooMany({ factors: { factors } }: Fresh): void {
  if (factors.length >= mostFactors)
    throw new Refusal('too_many_factors', { checks: [checked('second_factor', factors.length, mostFactors)] })
}

/**
 * What becomes of the session: one that has shown no second factor yet has shown this one, the first of its user, as by
 * a step-up with it. That of a browser is left to whoever has its request, for it gets another secret: see `raisedBy`.
 *
 * @param methods by which it has been shown @param now milliseconds since the epoch
 */
export function showing(
  { session }: Fresh,
  factor: string,
  methods: Amr[],
  now: number,
): { isFirst: true; raising?: Raised } | { by: string } {
  if (session.factor !== undefined) return { by: session.factor }
  if (!('clientId' in session)) return { isFirst: true }
  return { isFirst: true, raising: { sessionId: session.id, ...raisedBy(session, factor, methods, now) } }
}

/** How a session has been signed in to that has shown its first second factor now. */
export function raisedBy(session: Fresh['session'], factor: string, methods: Amr[], now: number): Authentication {
  const amr = [...new Set([...authenticationOf(session).amr, ...methods, 'mfa' as const])]
  return { authAt: now, amr, factor }
}
