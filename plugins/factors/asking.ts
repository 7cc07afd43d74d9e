import { randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { Caller } from '../../domain/caller.ts'
import { type Check, checked } from '../../domain/checks.ts'
import { type Client, mayChallenge } from '../../domain/client.ts'
import { type Factor, isPasskey, isSecondFactor } from '../../domain/factor.ts'
import { noPassword, type User } from '../../domain/user.ts'
import { Refusal } from '../../errors.ts'
import { type AuthSessions, type Flow, mostMisses } from './auth-sessions.ts'
import { createEnrolments } from './enrolments.ts'
import type { Wrong } from './judging.ts'

/** What an answer asks for: any one of them may come next. */
export const challengeNames = ['password', 'totp', 'webauthn', 'recovery_code', 'enroll'] as const
type ChallengeName = (typeof challengeNames)[number]

/** What is known of a step that has failed. */
const checksOf = ({ user, counted = [] }: Wrong, { misses }: Flow): Check[] => [
  checked('account', user ? `user ${user.id}` : 'unknown user'),
  checked('auth_session', `${misses} wrong so far`, mostMisses),
  ...counted,
]

/** What may come next. @param passkeysAreOn whether the service has any */
function challengesOf(flow: Flow, user: User | undefined, known: Factor[], passkeysAreOn: boolean): ChallengeName[] {
  if (!user) return ['webauthn']
  const passkey: ChallengeName[] = passkeysAreOn && known.some(({ kind }) => kind === 'webauthn') ? ['webauthn'] : []
  if (!flow.amr) return user.passwordHash === noPassword ? passkey : ['password', ...passkey]
  if (flow.enrolling) return [flow.enrolling.kind]
  if (!known.some(isSecondFactor)) return ['enroll']
  const has = (kind: Factor['kind']) => known.some((factor) => factor.kind === kind)
  const codes = known.some((factor) => factor.kind === 'recovery_code' && factor.hashes.length > 0)
  return [...(has('totp') ? (['totp'] as const) : []), ...passkey, ...(codes ? (['recovery_code'] as const) : [])]
}

/** Makes the answer that asks for the next step, as a refusal: there is nothing yet. */
export function createAsking(
  app: Pick<FastifyInstance, 'config' | 'factors' | 'passkeys' | 'mail' | 'now'>,
  authSessions: AuthSessions,
) {
  const { config, factors, passkeys } = app
  const enrolments = createEnrolments(app)

  return async function ask(
    caller: Caller,
    client: Client,
    flow: Flow,
    user: User | undefined,
    { status, failed }: { status?: 403; failed?: Wrong } = {},
  ): Promise<Refusal> {
    const known = user ? (await factors.of(user.id)).factors : []
    const { webauthn: _, enrolling: begun, ...kept } = flow
    // Another may have been first: then that factor is the one to show.
    const enrolling = known.some(isSecondFactor) ? undefined : begun
    const next: Flow = { ...kept, ...(enrolling && { enrolling }) }
    const names = challengesOf(next, user, known, passkeys.isOn)
    const members: Record<string, unknown> = { challenges: names }
    if (!mayChallenge(client)) {
      return new Refusal('insufficient_authorization', {
        ...(status && { status }),
        detail: 'More is needed to sign in, for which the client needs first_party and the grant authorization_code',
        checks: [checked('client', client.id, 'first_party, authorization_code')],
        members,
      })
    }
    if (names.includes('webauthn')) {
      next.webauthn = randomBytes(32).toString('base64url')
      const ofUser = known.filter(isPasskey)
      members['webauthn'] =
        enrolling && user
          ? await passkeys.creationOptions(user, { challenge: next.webauthn, known: ofUser })
          : // Which passkeys somebody has is for those who have shown the password, and not for an access token.
            await passkeys.requestOptions({ challenge: next.webauthn, allowed: flow.session ? [] : ofUser })
    }
    if (user && enrolling?.kind === 'totp') members['totp'] = await enrolments.show(user, enrolling)
    const seen = failed && (failed.seen ?? failed.wrong)
    return new Refusal('insufficient_authorization', {
      ...(status && { status }),
      detail: failed ? 'That was wrong' : 'More is needed to sign in: one of the challenges',
      reason: seen ?? 'the sign-in goes on',
      checks: [
        checked('second_factor', seen ?? 'none yet', names.join(', ')),
        ...(names.includes('enroll') ? [checked('mfa_policy', 'the user has no second factor', config.AUTH_MFA)] : []),
        ...(failed ? checksOf(failed, flow) : []),
      ],
      members: { ...members, auth_session: await authSessions.issue(caller, client, next) },
    })
  }
}
