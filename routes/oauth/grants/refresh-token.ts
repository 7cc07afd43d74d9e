import { Type } from '@fastify/type-provider-typebox'
import { RefreshToken } from '../../../schemas/oauth.ts'
import { grant, grantAudience, narrowing, readScope, required } from './grant.ts'

/** The next pair of tokens of a session, RFC 6749 §6. `scope` narrows the access token, not the session. */
export const refreshToken = grant({
  parameters: {
    refresh_token: Type.Optional(Type.String({ description: RefreshToken.description as string, examples: [''] })),
    ...narrowing,
  },

  async handle({ config, sessions }, { caller, client, form }) {
    const token = required(form, 'refresh_token')
    const aud = grantAudience(client, form.resource, config)
    const scope = readScope(form.scope)
    return sessions.refresh(caller, token, client, { scope, aud })
  },
})
