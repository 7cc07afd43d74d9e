import { type TProperties, Type } from '@sinclair/typebox'
import { roleCharacter } from '../domain/scope.ts'

/* Parts that several schemas share. */

/** An object with these members and no others: an unknown one is 400, for it may be a misspelt one. */
export const strictObject = <Members extends TProperties>(members: Members) =>
  Type.Object(members, { additionalProperties: false })

export const Username = Type.String({
  minLength: 1,
  // NFKC may join four characters into one.
  maxLength: 1016,
  description:
    "1 to 254 letters with their marks, digits and `._-@+'`; compared and counted in NFKC lower case, shown as typed",
  examples: ['ada'],
})

export const Email = Type.String({
  minLength: 1,
  maxLength: 1016,
  description: 'One address, `local@domain`, of at most 254 octets',
  examples: ['ada@example.com'],
})

export const Password = Type.String({
  maxLength: 1024,
  format: 'password',
  description:
    'Any characters, 15 (by setting) to 256, counted in code points after NFC; what attackers try first is refused',
  examples: ['correct horse battery staple'],
})

/** A password to compare: too long or too short is simply wrong. */
export const PresentedPassword = Type.String({ format: 'password', examples: ['correct horse battery staple'] })

export const Id = Type.String({ description: 'Opaque', examples: ['0198f3ce-4b7e-4f3a-9d1c-6a1f2e3d4c5b'] })

export const Timestamp = Type.String({ format: 'date-time', examples: ['2026-11-21T09:00:00.000Z'] })
/** @param ms milliseconds since the epoch */
export const toTimestamp = (ms: number): string => new Date(ms).toISOString()

export const Scope = Type.String({ description: 'Scopes, separated by spaces', examples: ['read write'] })

export const Roles = Type.Array(Type.String())

/** Roles to set. `GET /verify` joins them by commas in one header field, which a proxy may quote. */
export const RoleNames = Type.Array(Type.String({ pattern: `^${roleCharacter}{1,64}$` }), {
  uniqueItems: true,
  maxItems: 32,
  description: 'Names of 1 to 64 visible ASCII characters without comma, quote and backslash; `admin` opens `/admin/`',
  examples: [['admin', 'editor']],
})
