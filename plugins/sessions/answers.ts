import type { FastifyInstance } from 'fastify'
import { acrOf, authTimeOf } from '../../domain/authentication.ts'
import type { Client } from '../../domain/client.ts'
import { type Granted, remainingScope } from '../../domain/grant.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import { openIdScope } from '../../domain/scope.ts'
import { authenticationOf, type Session } from '../../domain/session.ts'
import type { User } from '../../domain/user.ts'
import type { TokenResponse } from '../../schemas/oauth.ts'
import type { Authorized } from '../factors/codes.ts'

/** What the code of a sign-in says of the answer. */
export type Asked = Pick<Authorized, 'lastsUntil' | 'nonce' | 'idTokenClaims'>

/** What the client of a session gets. */
export type Respond = ReturnType<typeof createAnswers>

/**
 * Makes the tokens of a session, RFC 6749 §5.1, and with `openid` an ID token (OpenID Connect Core §3.1.3.3 and §12.2).
 *
 * @returns a function of the user, the client, the session, what is granted, and what its code asked for: where it has
 * `lastsUntil` there is neither a refresh token nor an ID token
 */
export function createAnswers({
  config,
  accessTokens,
  refreshTokens,
  idTokens,
  now,
}: Pick<FastifyInstance, 'config' | 'accessTokens' | 'refreshTokens' | 'idTokens' | 'now'>) {
  const hasIdTokens = config.AUTH_PAGES === 'on'

  /** What tokens say of the sign-in: nothing where there never was a question of a second factor. */
  function claimsOfSignIn(user: User, session: Session) {
    if (!user.hasFactors && session.authAt === undefined) return undefined
    const { authAt, amr, factor } = authenticationOf(session)
    const acr = acrOf({ authAt, ...(factor !== undefined && { factor }) }, now(), config.AUTH_STEP_UP_TTL.ms)
    return { auth_time: authTimeOf({ authAt }), acr, amr }
  }

  return async function respond(
    user: User,
    client: Client,
    session: Session,
    granted: Granted,
    { lastsUntil, nonce, idTokenClaims: claims }: Asked = {},
  ): Promise<TokenResponse> {
    const scope = remainingScope(granted.scope, client, user)
    const scopeText = scope.length > 0 ? scope.join(' ') : undefined
    const signIn = claimsOfSignIn(user, session)
    const accessToken = await accessTokens.issue({
      aud: granted.aud,
      sub: user.id,
      client_id: session.clientId,
      sid: session.id,
      scope: scopeText,
      roles: user.roles.length > 0 ? user.roles : undefined,
      auth_time: signIn?.auth_time,
      acr: signIn?.acr,
      amr: signIn?.amr,
      generations: { user: user.generation, client: client.generation },
      lastsUntil,
    })
    const tokens: TokenResponse = {
      access_token: accessToken,
      token_type: 'Bearer',
      expires_in: lastsUntil === undefined ? accessTokens.ttlSeconds : lastsUntil - Math.floor(now() / 1000),
    }
    if (lastsUntil === undefined && client.grants.includes('refresh_token'))
      tokens.refresh_token = refreshTokens.encode(session.id, session.counter)
    if (scopeText !== undefined) tokens.scope = scopeText
    if (hasIdTokens && lastsUntil === undefined && scope.includes(openIdScope))
      tokens.id_token = await idTokens.issue({
        client,
        user,
        session,
        accessToken,
        ...omitUndefined({ nonce, claims }),
      })
    return tokens
  }
}
