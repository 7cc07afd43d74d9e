import { type Static, Type } from '@sinclair/typebox'
import { Scope } from './parts.ts'

/** The access token response, RFC 6749 §5.1. */
export const TokenResponse = Type.Object(
  {
    access_token: Type.String({ description: 'A JWT, RFC 9068' }),
    token_type: Type.Literal('Bearer'),
    expires_in: Type.Integer({ description: 'Seconds', examples: [600] }),
    refresh_token: Type.Optional(Type.String({ examples: ['lkr_…'] })),
    scope: Type.Optional(Scope),
    id_token: Type.Optional(Type.String({ description: 'OpenID Connect: who has signed in, with the scope `openid`' })),
  },
  { description: 'Access token response' },
)
export type TokenResponse = Static<typeof TokenResponse>

export const RefreshToken = Type.String({ description: 'The refresh token of the last response' })

/** How a client authenticates itself in a form, RFC 6749 §2.3.1. The empty examples make /docs send none. */
export const clientCredentials = {
  client_id: Type.Optional(Type.String({ description: '`first-party` by default', examples: [''] })),
  client_secret: Type.Optional(Type.String({ examples: [''] })),
}

/** The form of `/revoke` (RFC 7009 §2.1) and `/introspect` (RFC 7662 §2.1). */
export const PresentedToken = Type.Object({
  token: Type.Optional(Type.String()),
  token_type_hint: Type.Optional(Type.String({ examples: ['access_token', 'refresh_token'] })),
  ...clientCredentials,
})
