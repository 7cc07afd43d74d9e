import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { Caller } from '../../domain/caller.ts'
import type { Passkey } from '../../domain/factor.ts'
import type { User } from '../../domain/user.ts'
import type { Flow } from './auth-sessions.ts'
import { newTotpSecret, showTotp, totpStep } from './totp.ts'

type EnrollingTotp = Extract<NonNullable<Flow['enrolling']>, { kind: 'totp' }>

/** First factors, added in the middle of a sign-in that may not end without one. */
export function createEnrolments({
  factors,
  passkeys,
  mail,
  now,
}: Pick<FastifyInstance, 'factors' | 'passkeys' | 'mail' | 'now'>) {
  const stepOf = ({ secret }: EnrollingTotp, code: string) => totpStep({ secret, code, now: now(), after: -1 })

  return {
    begin: (kind: 'totp' | 'webauthn'): NonNullable<Flow['enrolling']> =>
      kind === 'totp' ? { kind, id: randomUUID(), secret: newTotpSecret() } : { kind },

    /** What an authenticator app is given, as text and as a picture. */
    show: ({ username }: User, { secret }: EnrollingTotp) =>
      showTotp({ secret, issuer: mail.service, account: username }),

    isRight: (enrolling: EnrollingTotp, code: string): boolean => stepOf(enrolling, code) !== undefined,

    /** @returns false where the user has a factor by now */
    async addTotp(caller: Caller, user: User, enrolling: EnrollingTotp, code: string): Promise<boolean> {
      const step = stepOf(enrolling, code)
      if (step === undefined) return false
      const { id } = enrolling
      const secret = factors.sealSecret(user.id, id, enrolling.secret)
      const totp = {
        kind: 'totp',
        id,
        name: 'Authenticator app',
        createdAt: now(),
        usedAt: now(),
        secret,
        step,
      } as const
      return factors.add(caller, user, totp, { isFirst: true })
    },

    /** The passkey that a response is of, or what is wrong with it. */
    async passkeyOf(response: unknown, challenge: string): Promise<Passkey | { wrong: string }> {
      const made = await passkeys.register(response, challenge)
      if ('wrong' in made) return made
      return { ...made.good, kind: 'webauthn', id: randomUUID(), createdAt: now(), usedAt: now() }
    },
  }
}
