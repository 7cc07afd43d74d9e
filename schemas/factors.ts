import { type Static, Type } from '@sinclair/typebox'
import { type Factor, type FactorKind, factorKinds } from '../domain/factor.ts'
import { omitUndefined } from '../domain/omit-undefined.ts'
import { Id, Timestamp, toTimestamp } from './parts.ts'

/** A second factor, as its user and administrators see it: nothing that could be signed in with. */
export const ListedFactor = Type.Object({
  id: Id,
  kind: Type.Unsafe<FactorKind>({ type: 'string', enum: [...factorKinds] }),
  name: Type.String({ examples: ['Pixel 9'] }),
  created_at: Timestamp,
  used_at: Type.Optional(Type.String({ format: 'date-time', description: 'Of the last sign-in with it' })),
  left: Type.Optional(Type.Integer({ description: 'Of recovery codes, how many are not spent' })),
})

export const FactorList = Type.Object({ factors: Type.Array(ListedFactor) })

export const FactorName = Type.String({
  minLength: 1,
  maxLength: 100,
  pattern: '^\\P{Cc}+$',
  description: 'What you call it, to tell it from others; no control characters',
  examples: ['Pixel 9'],
})

/** What an authenticator app is given. */
export const TotpSecret = Type.Object({
  id: Type.String({ description: 'Confirms it, and is that of the factor from then on' }),
  secret: Type.String({ description: 'Base32, for those who type it', examples: ['JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP'] }),
  uri: Type.String({
    description: 'A key URI; on a phone, a link to its app',
    examples: ['otpauth://totp/Example:ada?issuer=Example&secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP'],
  }),
  qr: Type.String({
    description: 'One `<svg>` element: the URI as a QR code, to be shown in a size that suits the page',
  }),
})

export const RecoveryCodeList = Type.Object({
  codes: Type.Array(Type.String({ examples: ['ABCD-EFGH-IJKL-MNOP'] }), { minItems: 10, maxItems: 10 }),
})

/** PublicKeyCredentialCreationOptionsJSON, WebAuthn §5.1.9: as the library makes it. */
export const CreationOptions = Type.Unsafe<object>({ type: 'object', additionalProperties: true })

const Base64Url = Type.String({ pattern: '^[\\w-]+$' })

/** RegistrationResponseJSON, WebAuthn §5.1.8, as browsers and apps make it: with other members, too. */
export const RegistrationResponse = Type.Object(
  {
    id: Base64Url,
    rawId: Base64Url,
    type: Type.Literal('public-key'),
    response: Type.Object({ clientDataJSON: Base64Url, attestationObject: Base64Url }, { additionalProperties: true }),
  },
  { additionalProperties: true, description: 'What `navigator.credentials.create` has made, by its `toJSON()`' },
)

export const NewPasskey = Type.Object({
  id: Id,
  name: Type.String({ examples: ['Google Password Manager'] }),
  created_at: Timestamp,
})

/** In the order in which they were added. */
export const toFactorList = (factors: Factor[]): Static<typeof FactorList> => ({ factors: factors.map(toListed) })

const toListed = (factor: Factor): Static<typeof ListedFactor> => ({
  id: factor.id,
  kind: factor.kind,
  name: factor.name,
  created_at: toTimestamp(factor.createdAt),
  ...omitUndefined({
    used_at: factor.usedAt === undefined ? undefined : toTimestamp(factor.usedAt),
    left: factor.kind === 'recovery_code' ? factor.hashes.length : undefined,
  }),
})
