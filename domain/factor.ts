import type { Amr } from './authentication.ts'
import type { User } from './user.ts'

/** What a user has beside the password to sign in with: the names are those of the challenges that they answer. */
export const factorKinds = ['totp', 'webauthn', 'recovery_code'] as const
export type FactorKind = (typeof factorKinds)[number]

interface OfEvery {
  /** up to 100 characters; shown to the user */
  id: string
  name: string
  createdAt: number
  /** of the last sign-in with it */
  usedAt?: number
}

/** An authenticator app, RFC 6238. */
export interface Totp extends OfEvery {
  kind: 'totp'
  /** base64url, sealed under AUTH_SECRET for this factor of this user: see `totpContext` */
  secret: string
  /** of the last code that was taken: no step is taken twice, nor one before it (RFC 6238 §5.2) */
  step: number
}

/** A discoverable credential that verifies its user, WebAuthn Level 3. */
export interface Passkey extends OfEvery {
  kind: 'webauthn'
  /** base64url, as the authenticator has given it */
  credentialId: string
  /** base64url of its COSE form */
  publicKey: string
  /** of signatures; 0 where the authenticator does not count */
  counter: number
  transports: string[]
  /** of the model of authenticator; zeros where it does not say */
  aaguid: string
  /** whether it may be copied to other devices of the user, and whether it has been */
  isBackupEligible: boolean
  isBackedUp: boolean
}

/** Codes for whoever has lost the others, each good once. By themselves they are no second factor. */
export interface RecoveryCodes extends OfEvery {
  kind: 'recovery_code'
  /** hashes of those that are not spent, see `plugins/factors/recovery-codes.ts` */
  hashes: string[]
}

export type Factor = Totp | Passkey | RecoveryCodes

/** The factors of a user: one row, so that whatever is spent is spent by compare-and-set of its version. */
export interface UserFactors {
  userId: string
  factors: Factor[]
  /** Rises with every change, also with the removal of the last factor. */
  version: number
}

/** Whether it makes a sign-in need two. */
export const isSecondFactor = ({ kind }: Factor): boolean => kind !== 'recovery_code'

/** A user, as the factors are. */
export function withFactors({ hasFactors: _, ...user }: User, factors: Factor[]): User {
  return factors.some(isSecondFactor) ? { ...user, hasFactors: true } : user
}

/** Whether the factor that a sign-in relied on, if any, is still the user's. */
export const hasFactor = (of: UserFactors | undefined, factorId: string | undefined): boolean =>
  factorId === undefined || (of?.factors.some(({ id }) => id === factorId) ?? false)

export const isPasskey = (factor: Factor): factor is Passkey => factor.kind === 'webauthn'

/** By which methods a passkey has shown a user, RFC 8176 §2: one that may be copied is no longer bound to its hardware. */
export const amrOf = ({ isBackupEligible }: Pick<Passkey, 'isBackupEligible'>): Amr[] => [
  isBackupEligible ? 'swk' : 'hwk',
  'user',
]

/** What the sealed secret of an authenticator app is bound to. */
export const totpContext = (userId: string, factorId: string): string => `totp ${userId} ${factorId}`

/** Who has to have a second factor: AUTH_MFA. */
export const mfaPolicies = ['optional', 'required', 'admins'] as const
export type MfaPolicy = (typeof mfaPolicies)[number]

/** Whether the policy demands a second factor that a user does not have. `lacksFactor` of the SQL is the same. */
export const lacksFactor = ({ hasFactors, roles }: User, mfa: MfaPolicy): boolean =>
  hasFactors !== true && (mfa === 'required' || (mfa === 'admins' && roles.includes('admin')))
