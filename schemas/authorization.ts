import { Type } from '@sinclair/typebox'

const optional = (description: string) => Type.Optional(Type.String({ description, examples: [''] }))

/** A request for authorization, RFC 6749 §4.1.1 and OpenID Connect Core §3.1.2.1. */
export const AuthorizationParameters = Type.Object({
  response_type: Type.String({ description: '`code`', examples: ['code'] }),
  client_id: Type.String({ examples: ['web'] }),
  redirect_uri: Type.String({ description: 'One of those that the client has registered, as text' }),
  scope: optional(
    'Names with a space between them; unknown ones are left out, and the answer at `/token` says what was given',
  ),
  state: optional('Comes back with the answer'),
  code_challenge: optional('RFC 7636; needed, unless the client has `pkce: optional`'),
  code_challenge_method: optional('`S256`'),
  response_mode: optional('`query` or `form_post`'),
  nonce: optional('Comes back in the ID token'),
  prompt: optional('`none`, or of `login`, `consent`, `select_account`, `create`'),
  max_age: optional('Seconds since the sign-in, at most'),
  login_hint: optional('Who signs in, for the field of the page'),
  id_token_hint: optional('Who has signed in before'),
  acr_values: optional('The best first, RFC 9470'),
  claims: optional('OpenID Connect Core §5.5'),
  ui_locales: optional('Languages of the pages'),
  resource: optional('RFC 8707: an audience of the client'),
  request_uri: optional('RFC 9126: what `POST /par` has answered with, in the place of all but `client_id`'),
})
