import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { checked } from '../../domain/checks.ts'
import { type Factor, isSecondFactor, lacksFactor, type RecoveryCodes, type Totp } from '../../domain/factor.ts'
import { networkText } from '../../domain/network.ts'
import { noPassword, type User } from '../../domain/user.ts'
import { Refusal } from '../../errors.ts'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'
import { createRecords, type Presented } from '../records/records.ts'
import { type Prove, refuseTooMany, showing } from './adding.ts'
import type { Fresh } from './fresh.ts'
import { hashRecoveryCode, makeRecoveryCodes } from './recovery-codes.ts'
import { newTotpSecret, showTotp, totpStep } from './totp.ts'

declare module 'fastify' {
  interface FastifyInstance {
    ownFactors: ReturnType<typeof createOwnFactors>
  }
}

/** An authenticator app that is not the user's yet: nobody has shown that it has the secret. */
interface Enrolling {
  secret: string
  name: string
}

/** It lives for as long as somebody may take to get the secret into their app. */
const enrolment = {
  prefix: 'lkf_',
  ttlSeconds: 600,
  bounds: { perOwner: 10, perSource: 1_000 },
  mostMisses: 5,
  isSealed: true,
} as const
const enrolmentId = /^[\w-]{43}$/

/** What users do about their own factors. Each is for a sign-in that is fresh, and decided anew where others come first. */
function createOwnFactors({
  config,
  store,
  secrets,
  mail,
  factors,
  now,
}: Pick<FastifyInstance, 'config' | 'store' | 'secrets' | 'mail' | 'factors' | 'now'>) {
  const records = createRecords({ store, secrets, now }, { totp: enrolment })

  /** Whoever has no password signs in by passkey alone; whoever has to have a second factor has to keep one. */
  function refuseLast(user: User, left: Factor[]): void {
    if (user.passwordHash === noPassword && !left.some(({ kind }) => kind === 'webauthn'))
      throw new Refusal('last_factor', { checks: [checked('password', 'none is set')] })
    const { hasFactors: _, ...without } = user
    if (!left.some(isSecondFactor) && lacksFactor(without, config.AUTH_MFA))
      throw new Refusal('last_factor', { checks: [checked('mfa_policy', 'it is the last', config.AUTH_MFA)] })
  }

  const show = ({ username: account }: User, { secret }: Enrolling) =>
    showTotp({ secret, issuer: mail.service, account })

  /** What a user has begun to add; undefined where it is another's, took too long, or is confirmed. */
  async function enrolling(
    { id: owner }: User,
    id: string,
  ): Promise<(Enrolling & Pick<Presented, 'taking'>) | undefined> {
    const named = enrolmentId.test(id) ? await records.name('totp', id) : undefined
    return named?.record.owner === owner ? { ...(named.data as Enrolling), taking: named.taking } : undefined
  }

  return {
    enrolmentTtlSeconds: enrolment.ttlSeconds,

    /**
     * Begins to add an authenticator app.
     *
     * @returns what the app is given, and the id that confirms it, and is its own from then on
     * @throws {Refusal} 409 where the user has as many factors as anybody may; 429 where ten wait to be confirmed
     */
    async beginTotp(caller: Caller, prove: Prove, name = 'Authenticator app') {
      const fresh = await prove()
      refuseTooMany(fresh)
      const { id: owner } = fresh.user
      const data: Enrolling = { secret: newTotpSecret(), name }
      const issued = await records.issue('totp', { owner, source: networkText(caller.address), data })
      if (!issued) {
        throw new Refusal('too_many_requests', {
          reason: 'too many authenticator apps wait to be confirmed',
          headers: { 'retry-after': String(enrolment.ttlSeconds) },
        })
      }
      return { id: issued.id, ...(await show(fresh.user, data)) }
    },

    /** Shows a user the authenticator app again that they have begun to add. @returns undefined where there is none */
    async showTotp(user: User, id: string) {
      const begun = await enrolling(user, id)
      return begun && { id, ...(await show(user, begun)) }
    },

    /**
     * Adds an authenticator app by the first of its codes, which is spent by that. A session that has shown no second
     * factor yet has shown this one.
     *
     * @param id as `beginTotp` has returned it
     * @throws {Refusal} 404 where there is no such app to confirm: it is another's, took too long, or is confirmed; 400
     * `invalid_code`, of which the fifth is the last
     */
    confirmTotp: (caller: Caller, prove: Prove, id: string, code: string): Promise<unknown> =>
      retryUntilApplied('The factors', async () => {
        const fresh = await prove()
        const { user } = fresh
        const begun = await enrolling(user, id)
        if (!begun) throw noSuch('There is no such authenticator app to confirm')
        refuseTooMany(fresh)
        const { secret, name, taking } = begun
        const step = totpStep({ secret, code, now: now(), after: -1 })
        if (step === undefined) {
          await records.miss('totp', id)
          throw wrongCode()
        }
        const sealed = factors.sealSecret(user.id, id, secret)
        const totp: Totp = { kind: 'totp', id, name, createdAt: now(), secret: sealed, step }
        return factors.add(caller, user, totp, { ...showing(fresh, id, ['otp'], now()), taking })
      }),

    /** Makes recovery codes, in the place of those before. @returns them, once */
    makeRecoveryCodes: (caller: Caller, prove: Prove): Promise<string[]> =>
      retryUntilApplied('The recovery codes', async () => {
        const fresh = await prove()
        const { user } = fresh
        const codes = makeRecoveryCodes()
        const hashes = codes.map((code) => hashRecoveryCode(user.id, code))
        const isMade = await factors.change(caller, user, (known) => {
          if (!isHighest(fresh, known)) return undefined
          const before = known.find(({ kind }) => kind === 'recovery_code')
          // Under its old id: whoever has lost the others is signed in by a code of the old set while making this one.
          const id = before?.id ?? randomUUID()
          const set: RecoveryCodes = { kind: 'recovery_code', id, name: 'Recovery codes', createdAt: now(), hashes }
          const next = [...known.filter((factor) => factor !== before), set]
          return { next, told: [{ event: 'recovery_codes.made', members: { sub: user.id } }] }
        })
        return isMade && codes
      }),

    /**
     * Removes a factor. Sessions that were of a level by it are so no more.
     *
     * @throws {Refusal} 404; 409 `last_factor`
     */
    remove: (caller: Caller, prove: Prove, id: string): Promise<unknown> =>
      retryUntilApplied('The factors', async () => {
        const fresh = await prove()
        return factors.change(caller, fresh.user, (known) => {
          if (!isHighest(fresh, known)) return undefined
          const gone = known.find((factor) => factor.id === id)
          if (!gone) throw noSuch('There is no such factor')
          const next = known.filter((factor) => factor !== gone)
          if (isSecondFactor(gone)) refuseLast(fresh.user, next)
          const members = { sub: fresh.user.id, factor: id, kind: gone.kind }
          return { next, told: [{ event: 'factor.removed', members }], also: { lowering: id } }
        })
      }),
  }
}

/**
 * Whether the session is of the highest level of the account: it may have got its first second factor meanwhile, or lost
 * the one that the session has shown.
 */
const isHighest = ({ session }: Fresh, known: Factor[]): boolean =>
  known.some(({ id }) => id === session.factor) || !known.some(isSecondFactor)

const noSuch = (detail: string) => new Refusal('not_found', { detail })

const wrongCode = () =>
  new Refusal('invalid_code', {
    ...{ detail: 'The code is wrong', errors: [{ pointer: '/code', detail: 'is wrong' }] },
    checks: [checked('second_factor', 'wrong code')],
  })

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('ownFactors', createOwnFactors(app))
  },
  { name: 'own-factors', dependencies: ['store', 'secrets', 'mail', 'factors'] },
)
