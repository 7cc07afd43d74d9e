import { createHash, randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { TOTP } from 'otpauth'
import { noPassword } from '../../domain/user.ts'
import { hashRecoveryCode, makeRecoveryCodes } from '../../plugins/factors/recovery-codes.ts'
import { newTotpSecret } from '../../plugins/factors/totp.ts'
import { callerFrom } from './client-helper.ts'
import { claimsOf, json, password, postForm, storeOf } from './helper.ts'

/* Second factors, and sign-ins with them. */

/** What an authenticator app shows at a time. @param secret in base32 @param now milliseconds since the epoch */
export const codeOf = (secret: string, now: number, steps = 0): string =>
  new TOTP({ secret }).generate({ timestamp: now + steps * 30_000 })

/** A code that is not the one of any step near. */
export const wrongCode = (secret: string, now: number): string => {
  const near = [-2, -1, 0, 1, 2].map((steps) => codeOf(secret, now, steps))
  return ['000000', '000001', '000002', '000003', '000004', '000005'].find((code) => !near.includes(code)) as string
}

const userOf = async (app: FastifyInstance, username: string) => {
  const user = await storeOf(app).findUserByName(username)
  if (!user) throw new Error(`there is no ${username}`)
  return user
}

/** Has a user have an authenticator app, no code of which is spent. @returns its secret, in base32 */
export async function giveTotp(app: FastifyInstance, username = 'ada'): Promise<{ id: string; secret: string }> {
  const user = await userOf(app, username)
  const [id, secret] = [randomUUID(), newTotpSecret()]
  const of = { kind: 'totp', id, name: 'app', createdAt: app.now(), step: 0 } as const
  const factor = { ...of, secret: app.factors.sealSecret(user.id, id, secret) }
  if (!(await app.factors.add(callerFrom('192.0.2.1', app.log), user, factor))) throw new Error('not added')
  return { id, secret }
}

/** Has a user have ten recovery codes. */
export async function giveRecoveryCodes(app: FastifyInstance, username = 'ada'): Promise<string[]> {
  const user = await userOf(app, username)
  const codes = makeRecoveryCodes()
  const hashes = codes.map((code) => hashRecoveryCode(user.id, code))
  const factor = { kind: 'recovery_code', id: randomUUID(), name: 'codes', createdAt: app.now(), hashes } as const
  if (!(await app.factors.add(callerFrom('192.0.2.1', app.log), user, factor))) throw new Error('not added')
  return codes
}

/** A step at `POST /challenge`. */
export const challenge = (app: FastifyInstance, fields: Record<string, string>, options = {}) =>
  postForm(app, '/challenge', fields, options)

/** The first step, by a password. */
export const begin = (app: FastifyInstance, username = 'ada', fields: Record<string, string> = {}) =>
  challenge(app, { username, password, ...fields })

/** Trades a code in. */
export const exchange = (app: FastifyInstance, code: string, fields: Record<string, string> = {}) =>
  postForm(app, '/token', { grant_type: 'authorization_code', code, ...fields })

/** Signs a user in with a password and a code of an authenticator app. */
export async function signInWithCode(app: FastifyInstance, otp: string, username = 'ada') {
  const { auth_session } = json(await begin(app, username))
  const answer = await challenge(app, { auth_session, otp })
  if (answer.statusCode !== 200) throw new Error(`not signed in: ${answer.body}`)
  return json(await exchange(app, json(answer).authorization_code))
}

/** RFC 7636 §4.2 */
export const challengeOfVerifier = (verifier: string) => createHash('sha256').update(verifier).digest('base64url')

/** Has a user sign in by nothing but a passkey from now on; the session of the token has done so. @returns its id */
export async function leavePasskeyAlone(app: FastifyInstance, accessToken: string): Promise<string> {
  const { sub, sid } = claimsOf(accessToken) as { sub: string; sid: string }
  const store = storeOf(app)
  const [user, { factors, version }] = await Promise.all([store.findUser(sub), app.factors.of(sub)])
  const id = randomUUID()
  const of = { kind: 'webauthn', id, name: 'Passkey', createdAt: app.now(), credentialId: id } as const
  const told = { publicKey: '', counter: 0, transports: [], aaguid: '', isBackupEligible: false, isBackedUp: false }
  await store.changeFactors({
    ...{ userId: sub, expectedVersion: version, next: [...factors, { ...of, ...told }] },
    raising: { sessionId: sid, authAt: app.now(), amr: ['hwk', 'user', 'mfa'], factor: id },
  })
  await store.replacePasswordHash(sub, user?.passwordHash ?? '', noPassword)
  return id
}
