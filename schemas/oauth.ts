import { type Static, Type } from '@sinclair/typebox'
import { Scope } from './parts.ts'

/** The access token response, RFC 6749 §5.1. */
export const TokenResponse = Type.Object(
  {
    access_token: Type.String({ description: 'A JWT, RFC 9068' }),
    token_type: Type.Literal('Bearer'),
    expires_in: Type.Integer({ description: 'seconds', examples: [600] }),
    refresh_token: Type.Optional(Type.String({ examples: ['lkr_…'] })),
    scope: Type.Optional(Scope),
  },
  { description: 'The tokens' },
)
export type TokenResponse = Static<typeof TokenResponse>

export const RefreshToken = Type.String({ description: 'The refresh token of the answer before' })
