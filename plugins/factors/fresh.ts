import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { acrOf, authTimeOf, freshForSeconds, lackOf, oneFactor, twoFactors } from '../../domain/authentication.ts'
import type { BrowserSession } from '../../domain/browser-session.ts'
import type { UserFactors } from '../../domain/factor.ts'
import { authenticationOf, type Session } from '../../domain/session.ts'
import { mayHaveTokens, type User } from '../../domain/user.ts'
import { insufficientAuthentication, tokenRefused } from '../../errors.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Who has signed in a moment ago, at the highest level that the account has: only they may change its factors.
     *
     * @param maxAgeSeconds where what is asked for was begun by a sign-in that was fresh
     * @throws {Refusal} 401 `insufficient_user_authentication`, RFC 9470 §3
     */
    requireFresh: (request: FastifyRequest, maxAgeSeconds?: number) => Promise<Fresh>
  }
}

/** As they are in the store now. */
export interface Fresh {
  user: User
  /** that of an app, or the browser's */
  session: Session | BrowserSession
  factors: UserFactors
}

function createRequireFresh({
  config,
  store,
  factors,
  revocations,
  now,
}: Pick<FastifyInstance, 'config' | 'store' | 'factors' | 'revocations' | 'now'>) {
  return async ({ token }: FastifyRequest, maxAgeSeconds = freshForSeconds): Promise<Fresh> => {
    const [session, user, known] = await Promise.all([
      store.findSession(token.sid ?? ''),
      store.findUser(token.sub),
      factors.of(token.sub),
    ])
    if (session?.userId !== token.sub || !mayHaveTokens(user, session.generation)) {
      // Gone a moment ago, by a request that had no answer, say: its tokens are refused before this one is answered.
      await revocations.pull()
      throw tokenRefused('invalid', 'the session of the token, or its user, is gone')
    }
    const authentication = authenticationOf(session)
    const acr = acrOf(authentication, now(), config.AUTH_STEP_UP_TTL.ms)
    const needed = user.hasFactors ? twoFactors : oneFactor
    const signIn = { acr, auth_time: authTimeOf(authentication) }
    const lack = lackOf(signIn, { acr: needed, maxAgeSeconds }, now())
    if (!lack) return { user, session, factors: known }
    throw insufficientAuthentication(lack, { acr: needed, maxAgeSeconds: freshForSeconds }, signIn, now())
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('requireFresh', createRequireFresh(app))
  },
  { name: 'fresh', dependencies: ['store', 'factors', 'revocations', 'guards'] },
)
