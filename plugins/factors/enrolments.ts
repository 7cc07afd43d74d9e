import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { Amr } from '../../domain/authentication.ts'
import type { Caller } from '../../domain/caller.ts'
import { amrOf } from '../../domain/factor.ts'
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

    /** @returns the id of the factor; undefined where the user has one by now */
    async addTotp(caller: Caller, user: User, enrolling: EnrollingTotp, code: string): Promise<string | undefined> {
      const step = stepOf(enrolling, code)
      if (step === undefined) return undefined
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
      return (await factors.add(caller, user, totp, { isFirst: true })) ? id : undefined
    },

    /** @returns the id and the methods of the passkey; or what is wrong with it */
    async addPasskey(
      caller: Caller,
      user: User,
      response: unknown,
      challenge: string,
    ): Promise<{ factor: string; amr: Amr[] } | { wrong: string }> {
      const made = await passkeys.register(response, challenge)
      if ('wrong' in made) return made
      const id = randomUUID()
      const passkey = { ...made.good, kind: 'webauthn', id, createdAt: now(), usedAt: now() } as const
      const isAdded = await factors.add(caller, user, passkey, { isFirst: true })
      return isAdded ? { factor: id, amr: amrOf(passkey) } : { wrong: 'the user has a factor by now' }
    },
  }
}
