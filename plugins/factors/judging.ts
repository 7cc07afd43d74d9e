import type { FastifyInstance } from 'fastify'
import type { Amr } from '../../domain/authentication.ts'
import type { Caller } from '../../domain/caller.ts'
import type { Check } from '../../domain/checks.ts'
import { amrOf, isPasskey } from '../../domain/factor.ts'
import { mayHaveTokens, type User } from '../../domain/user.ts'
import type { LoginFailure } from '../../events.ts'
import type { Flow } from './auth-sessions.ts'
import { createEnrolments } from './enrolments.ts'

/** What comes with an `auth_session`; one of them. */
export type Shown =
  | { password: string }
  | { otp: string }
  | { recoveryCode: string }
  | { webauthn: string }
  | { enroll: 'totp' | 'webauthn' }

/** What was shown was wrong, with what was seen, for whoever has to explain it. */
export interface Wrong {
  wrong: LoginFailure
  user?: User
  seen?: string
  counted?: Check[] | undefined
}

/** What was shown was right: how much of a sign-in that is. */
export interface Right {
  user: User
  amr: Amr[]
  factor?: string
  /** Uses it up, or adds what was enrolled: of all who have shown the same, one gets undefined. */
  spend?: () => Promise<Wrong | undefined>
}

/** What the step of a sign-in came to; the next may have other factors in view. */
export type Judged =
  | { right: Right }
  | Wrong
  /** which is passed over where there is a factor already */
  | { enrolling: NonNullable<Flow['enrolling']> }

/** Judges what comes with a step of a sign-in. */
export function createJudging(
  app: Pick<FastifyInstance, 'store' | 'signIn' | 'throttle' | 'factors' | 'passkeys' | 'mail' | 'events' | 'now'>,
) {
  const { store, signIn, throttle, factors, passkeys, events } = app
  const enrolments = createEnrolments(app)

  /** A guess at a code of a user: counted with those at the password. @returns the counts, where it is wrong */
  async function guess(caller: Caller, user: User, isRight: () => boolean): Promise<Check[] | undefined> {
    const find = () => user
    const guess = await throttle.guard(caller, 'user', user.nameKey, find, (_, judge) => judge(isRight))
    return guess.isRight ? undefined : guess.checks
  }

  async function judgeOtp(caller: Caller, flow: Flow, user: User, otp: string): Promise<Judged> {
    if (flow.enrolling?.kind === 'totp') {
      const { enrolling } = flow
      const counted = await guess(caller, user, () => enrolments.isRight(enrolling, otp))
      const wrong: Wrong = { wrong: 'wrong code', user, counted }
      const spend = async () => ((await enrolments.addTotp(caller, user, enrolling, otp)) ? undefined : wrong)
      return counted ? wrong : { right: { user, amr: ['otp'], factor: enrolling.id, spend } }
    }
    const known = (await factors.of(user.id)).factors
    let used: ReturnType<typeof factors.findTotp>
    const counted = await guess(caller, user, () => {
      used = factors.findTotp(user, known, otp)
      return used !== undefined
    })
    const wrong: Wrong = { wrong: 'wrong code', user, seen: factors.whyWrong(user, known, otp), counted }
    if (counted || !used) return wrong
    const right = used
    const spend = async () => ((await factors.spendTotp(caller, user, right)) ? undefined : wrong)
    return { right: { user, amr: ['otp'], factor: right.id, spend } }
  }

  async function judgeRecoveryCode(caller: Caller, user: User, code: string): Promise<Judged> {
    const known = (await factors.of(user.id)).factors
    const set = factors.findRecoveryCode(user, known, code)
    const counted = await guess(caller, user, () => set !== undefined)
    const wrong: Wrong = { wrong: 'wrong recovery code', user, counted }
    if (counted || !set) return wrong
    const spend = async () => ((await factors.spendRecoveryCode(caller, user, code)) ? undefined : wrong)
    return { right: { user, amr: [], factor: set.id, spend } }
  }

  /** Nobody can guess at a passkey, so no wait keeps its owner out. */
  async function judgePasskey(caller: Caller, flow: Flow, of: User | undefined, json: string): Promise<Judged> {
    const isWrong = (why: string, user = of): Wrong => ({
      ...{ wrong: 'wrong passkey', seen: `wrong passkey: ${why}` },
      ...(user && { user }),
    })
    const response = parseJson(json)
    const { webauthn: challenge, enrolling } = flow
    if (challenge === undefined) return isWrong('none was asked for')
    if (of && enrolling?.kind === 'webauthn') {
      const made = await enrolments.passkeyOf(response, challenge)
      if ('wrong' in made) return isWrong(made.wrong)
      const add = () => factors.add(caller, of, made, { isFirst: true })
      const spend = async () => ((await add()) ? undefined : isWrong('the user has a factor by now'))
      return { right: { user: of, amr: amrOf(made), factor: made.id, spend } }
    }
    const credential = passkeys.credentialOf(response)
    const user = of ?? (credential?.userId === undefined ? undefined : await store.findUser(credential.userId))
    if (!credential || !mayHaveTokens(user) || (credential.userId ?? user.id) !== user.id)
      return isWrong('of no such user')
    const passkey = (await factors.of(user.id)).factors
      .filter(isPasskey)
      .find(({ credentialId }) => credentialId === credential.credentialId)
    if (!passkey) return isWrong('none of the passkeys of the user', user)
    const verified = await passkeys.verify(passkey, response, challenge)
    if ('wrong' in verified) {
      if (verified.isCloned) events.emit(caller, 'passkey.cloned', { sub: user.id, factor: passkey.id })
      return isWrong(verified.wrong, user)
    }
    const { good } = verified
    const use = () => factors.usePasskey(caller, user, good)
    const spend = async () => ((await use()) ? undefined : isWrong('used a moment ago', user))
    return { right: { user, amr: amrOf(good), factor: good.id, spend } }
  }

  async function judge(caller: Caller, flow: Flow, user: User | undefined, shown: Shown): Promise<Judged> {
    if ('webauthn' in shown) return judgePasskey(caller, flow, user, shown.webauthn)
    if (!user) return { wrong: 'wrong passkey' }
    if ('password' in shown) {
      if (flow.amr || !(await signIn.confirmPassword(caller, user, shown.password)))
        return { wrong: 'wrong password', user }
      return { right: { user, amr: ['pwd'] } }
    }
    // No code is looked at before the password: whoever has none must not learn of the other.
    if (!flow.amr) return { wrong: 'wrong code', user }
    if ('enroll' in shown) return { enrolling: enrolments.begin(shown.enroll) }
    if ('otp' in shown) return judgeOtp(caller, flow, user, shown.otp)
    // They are in the place of a second factor, and where there is none they are no way around having one.
    return user.hasFactors
      ? judgeRecoveryCode(caller, user, shown.recoveryCode)
      : { wrong: 'wrong recovery code', user }
  }

  return judge
}

/** @returns undefined for what is no JSON: that is as wrong as any other answer */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
