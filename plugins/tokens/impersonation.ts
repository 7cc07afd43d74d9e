import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type AccessTokenClaims, generationsOf } from '../../domain/access-token.ts'
import type { Caller } from '../../domain/caller.ts'
import { adminScope } from '../../domain/client.ts'
import { parseScope } from '../../domain/grant.ts'
import { actingTtlSeconds } from '../../domain/lifetimes.ts'
import { Refusal } from '../../errors.ts'
import type { TokenResponse } from '../../schemas/oauth.ts'
import { auditRowOf } from '../run/audit-rows.ts'

declare module 'fastify' {
  interface FastifyInstance {
    impersonation: ReturnType<typeof createImpersonation>
  }
}

/** Tokens by which an administrator sees what a user sees. */
function createImpersonation({
  config,
  store,
  changes,
  accessTokens,
  userAdmin,
  now,
}: Pick<FastifyInstance, 'config' | 'store' | 'changes' | 'accessTokens' | 'userAdmin' | 'now'>) {
  return {
    /**
     * Makes an access token of a user for an administrator, with `act` (RFC 8693 §4.1), and records it first. It is a
     * token of the administrator's session and client, so that it ends with them, and of the user's generation.
     *
     * @param admin claims of the administrator's own token
     * @param asked `audience` is AUTH_AUDIENCE when not given
     * @throws {Refusal} 404; 403 for an administrator; 409 for a disabled user; 400 for a scope that cannot be given
     */
    async issue(
      caller: Caller,
      admin: AccessTokenClaims,
      userId: string,
      asked: { scope?: string; audience?: string },
    ): Promise<TokenResponse> {
      const user = await userAdmin.get({ id: userId })
      const { scope = '', audience = config.AUTH_AUDIENCE } = asked
      if (user.roles.includes(adminScope)) throw new Refusal('administrator_account')
      if (user.disabledAt !== undefined) throw new Refusal('user_disabled')
      const names = scope === '' ? [] : parseScope(scope)
      if (!names || names.includes(adminScope)) {
        throw new Refusal('invalid_scope', { detail: `The scope is malformed, or has ${adminScope} in it` })
      }
      const { client_id } = admin
      const told = { sub: user.id, client_id, scope: names.join(' '), audience }
      await changes.make(caller, 'user.impersonated', told, async () => {
        await store.addAudit([auditRowOf(caller, 'user.impersonated', told, now())])
        return true
      })
      const scopeText = names.length > 0 && { scope: names.join(' ') }
      const access_token = await accessTokens.issue({
        aud: audience,
        sub: user.id,
        client_id,
        // A client has no session. Without one it would be taken for a token of a client.
        sid: admin.sid ?? randomUUID(),
        ...scopeText,
        ...(user.roles.length > 0 && { roles: user.roles }),
        generations: { user: user.generation, client: generationsOf(admin.jti).client },
        actor: admin,
      })
      return { access_token, token_type: 'Bearer', expires_in: actingTtlSeconds, ...scopeText }
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('impersonation', createImpersonation(app))
  },
  { name: 'impersonation', dependencies: ['store', 'changes', 'access-tokens', 'user-admin'] },
)
