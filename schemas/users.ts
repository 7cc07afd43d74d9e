import { type Static, Type } from '@sinclair/typebox'
import type { Failures } from '../domain/failures.ts'
import { omitUndefined } from '../domain/omit-undefined.ts'
import type { User } from '../domain/user.ts'
import { Id, Roles, Timestamp, toTimestamp, Username } from './parts.ts'

/** A user as administrators see it. */
export const AdminUser = Type.Object({
  id: Id,
  username: Username,
  roles: Roles,
  created_at: Timestamp,
  disabled_at: Type.Optional(Timestamp),
  email: Type.Optional(Type.String({ examples: ['ada@example.com'] })),
  email_verified: Type.Optional(Type.Boolean()),
  second_factor: Type.Optional(Type.Literal(true, { description: 'There where the user has one' })),
  locale: Type.Optional(Type.String({ description: 'The language of mails', examples: ['en'] })),
  source: Type.Optional(
    Type.String({ description: 'The system that the user was imported from', examples: ['auth0'] }),
  ),
  external_id: Type.Optional(Type.String({ description: 'What the user is called there' })),
})

/** One user, with what may keep them from logging in. */
export const ShownUser = Type.Composite([
  AdminUser,
  Type.Object({
    failed_logins: Type.Optional(
      Type.Object({ count: Type.Integer(), last_at: Timestamp }, { description: 'Since the last that succeeded' }),
    ),
  }),
])

/** A user as they see themselves; and as a new one is answered with. */
export const Profile = Type.Omit(AdminUser, ['disabled_at', 'second_factor', 'locale', 'source', 'external_id'])
export const NewUser = Type.Composite([
  Type.Omit(Profile, ['roles', 'email', 'email_verified']),
  Type.Object({
    email_verification_id: Type.Optional(
      Type.String({ description: 'Where there is an `email`: goes with the code of the mail to it' }),
    ),
  }),
])

type Shown = Pick<
  User,
  | 'id'
  | 'username'
  | 'roles'
  | 'createdAt'
  | 'disabledAt'
  | 'email'
  | 'emailKey'
  | 'hasFactors'
  | 'locale'
  | 'source'
  | 'externalId'
>

/** What the schema of a route does not have is left out of its response. */
export const toUser = ({ id, username, roles, createdAt, ...user }: Shown): Static<typeof AdminUser> => ({
  id,
  username,
  roles,
  created_at: toTimestamp(createdAt),
  ...omitUndefined({
    disabled_at: user.disabledAt === undefined ? undefined : toTimestamp(user.disabledAt),
    email: user.email,
    email_verified: user.email === undefined ? undefined : user.emailKey !== undefined,
    second_factor: user.hasFactors,
    locale: user.locale,
    source: user.source,
    external_id: user.externalId,
  }),
})

export const toShownUser = (user: Shown, failures: Failures | undefined): Static<typeof ShownUser> => ({
  ...toUser(user),
  ...(failures && { failed_logins: { count: failures.count, last_at: toTimestamp(failures.lastAt) } }),
})
