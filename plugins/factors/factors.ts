import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { checked } from '../../domain/checks.ts'
import {
  type Factor,
  isSecondFactor,
  type Passkey,
  type RecoveryCodes,
  type Totp,
  totpContext,
  type UserFactors,
} from '../../domain/factor.ts'
import type { User } from '../../domain/user.ts'
import { Refusal } from '../../errors.ts'
import type { EventName } from '../../events.ts'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'
import type { FactorsChange } from '../../stores/tables/factors.ts'
import type { Change } from '../run/changes.ts'
import { hashRecoveryCode } from './recovery-codes.ts'
import { isTaken, secondsOff, totpStep } from './totp.ts'

declare module 'fastify' {
  interface FastifyInstance {
    factors: ReturnType<typeof createFactors>
  }
}

/** Of all kinds together. */
export const mostFactors = 20

/**
 * Each is a mail and a row of the audit trail, and whoever has signed in could make them without end. There are no more
 * removals than that, and they are not kept waiting: what a thief has added goes, however much they have done.
 */
const changesAnHour = 30
const hourMs = 3_600_000
const limited: ReadonlySet<EventName> = new Set(['factor.added', 'recovery_codes.made'])

/** What goes with a change of factors, in one step. */
type Also = Pick<FactorsChange, 'taking' | 'raising' | 'lowering'>

/** The factors as they are to be, and what is told of it; undefined to leave them. */
type Edit = (factors: Factor[]) => { next: Factor[]; told?: Change[]; also?: Also } | undefined

/** What users have beside their passwords to sign in with. */
function createFactors({
  config,
  store,
  secrets,
  changes,
  now,
}: Pick<FastifyInstance, 'config' | 'store' | 'secrets' | 'changes' | 'now'>) {
  /** The factors of a user; none of version 0 where there is no row. */
  const of = async (userId: string): Promise<UserFactors> =>
    (await store.findFactors(userId)) ?? { userId, factors: [], version: 0 }

  /** Counts a change of a user's own. @throws {Refusal} 429 */
  async function countChange(userId: string): Promise<void> {
    if (config.AUTH_THROTTLE === 'off') return
    const hour = Math.floor(now() / hourMs)
    const [counted] = await store.recordFailure([{ key: `factors ${userId}`, tag: String(hour) }], now())
    const count = counted?.count ?? 0
    if (count <= changesAnHour) return
    throw new Refusal('too_many_requests', {
      reason: 'too many changes of second factors',
      checks: [checked('factor_changes', count, changesAnHour)],
      headers: { 'retry-after': String(Math.ceil(((hour + 1) * hourMs - now()) / 1000)) },
    })
  }

  /**
   * Changes the factors of a user. Repeated until no other change comes between, with `edit` deciding anew: so a code
   * is spent once, however many present it.
   *
   * @param edit makes the next factors of those that there are
   * @returns false where `edit` leaves them, where the user is gone or disabled, or where the record or session that
   *   goes with it is gone
   * @throws {Refusal} 429 where it is told, and as many were within the hour
   */
  async function change(caller: Caller, user: Pick<User, 'id'>, edit: Edit): Promise<boolean> {
    let seen: number | undefined
    let isCounted = false
    const result = await retryUntilApplied('The factors', async () => {
      const { factors, version } = await of(user.id)
      // Nobody was first, so it was something else that the store has refused.
      if (version === seen) return 'refused'
      const edited = edit(factors)
      if (!edited) return 'refused'
      seen = version
      const { next, told = [], also } = edited
      if (!isCounted && told.some(({ event }) => limited.has(event))) await countChange(user.id)
      isCounted = true
      const isDone = await changes.makeAll(caller, told, (store) =>
        store.changeFactors({ userId: user.id, expectedVersion: version, next, ...also }),
      )
      return isDone && 'done'
    })
    return result === 'done'
  }

  /**
   * Adds a factor.
   *
   * @param isFirst whether it is refused where there is a second factor by now: who has only shown a password may not
   *   add another
   * @param by the factor that was shown for it: it is refused where that is gone by now
   * @returns false as `change` does, and where the user has as many as anybody may
   */
  const add = (
    caller: Caller,
    user: User,
    factor: Factor,
    { isFirst = false, by, ...also }: Also & { isFirst?: boolean; by?: string } = {},
  ) =>
    change(caller, user, (factors) => {
      if (factors.length >= mostFactors || (isFirst && factors.some(isSecondFactor))) return undefined
      if (by !== undefined && !factors.some(({ id }) => id === by)) return undefined
      const { id, kind } = factor
      const told: Change = { event: 'factor.added', members: { sub: user.id, factor: id, kind } }
      return { next: [...factors, factor], told: [told], also }
    })

  const openSecret = (user: User, { id, secret }: Totp): string | undefined =>
    secrets.open(Buffer.from(secret, 'base64url'), totpContext(user.id, id))?.plaintext.toString()

  /** The set that a recovery code is of; undefined where it is wrong, or was taken before. */
  const findRecoveryCode = (user: User, factors: Factor[], code: string): RecoveryCodes | undefined =>
    factors
      .filter((factor) => factor.kind === 'recovery_code')
      .find(({ hashes }) => hashes.includes(hashRecoveryCode(user.id, code)))

  return {
    of,
    change,
    add,

    /** A secret of an authenticator app, as its factor has it. */
    sealSecret: (userId: string, factorId: string, secret: string): string =>
      secrets.seal(Buffer.from(secret), totpContext(userId, factorId)).toString('base64url'),

    /**
     * The factor that a code of an authenticator app is right for. It is not spent by that.
     *
     * @returns undefined where it is wrong, or was taken before
     */
    findTotp(user: User, factors: Factor[], code: string): Totp | undefined {
      for (const factor of factors) {
        const secret = factor.kind === 'totp' ? openSecret(user, factor) : undefined
        if (factor.kind !== 'totp' || secret === undefined) continue
        const step = totpStep({ secret, code, now: now(), after: factor.step })
        if (step !== undefined) return { ...factor, step, usedAt: now() }
      }
      return undefined
    },

    /** Why a code is wrong: for administrators, and not for whoever has sent it. */
    whyWrong(user: User, factors: Factor[], code: string): string {
      for (const factor of factors) {
        const secret = factor.kind === 'totp' ? openSecret(user, factor) : undefined
        const seconds = secret === undefined ? undefined : secondsOff({ secret, code, now: now() })
        if (seconds === undefined) continue
        if (Math.abs(seconds) <= 30) return 'a code that was used before'
        return `a code of ${Math.abs(seconds)} s ${seconds < 0 ? 'ago' : 'ahead'}: by a clock that is wrong, or typed late`
      }
      return 'wrong code'
    },

    /** Takes a code: of all who present it, one gets true. @param used as `findTotp` has returned it */
    spendTotp: (caller: Caller, user: User, used: Totp): Promise<boolean> =>
      change(caller, user, (factors) => {
        const stored = factors.find(({ id }) => id === used.id)
        const isFree = stored?.kind === 'totp' && !isTaken(used.step, stored.step, now())
        return isFree ? { next: replaced(factors, used) } : undefined
      }),

    findRecoveryCode,

    /** Takes a recovery code: of all who present it, one gets true. */
    spendRecoveryCode: (caller: Caller, user: User, code: string): Promise<boolean> =>
      change(caller, user, (factors) => {
        const set = findRecoveryCode(user, factors, code)
        if (!set) return undefined
        const hashes = set.hashes.filter((one) => one !== hashRecoveryCode(user.id, code))
        const told: Change = { event: 'recovery_code.used', members: { sub: user.id, left: hashes.length } }
        return { next: replaced(factors, { ...set, hashes, usedAt: now() }), told: [told] }
      }),

    /** Keeps what a passkey has said of itself. @returns false where its counter has not risen since */
    usePasskey: (caller: Caller, user: User, used: Passkey): Promise<boolean> =>
      change(caller, user, (factors) => {
        const stored = factors.find(({ id }) => id === used.id)
        if (stored?.kind !== 'webauthn') return undefined
        if (used.counter !== 0 || stored.counter !== 0) {
          if (used.counter <= stored.counter) return undefined
        }
        return { next: replaced(factors, { ...used, usedAt: now() }) }
      }),
  }
}

const replaced = (factors: Factor[], next: Factor): Factor[] =>
  factors.map((factor) => (factor.id === next.id ? next : factor))

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('factors', createFactors(app))
  },
  { name: 'factors', dependencies: ['store', 'secrets', 'changes'] },
)
