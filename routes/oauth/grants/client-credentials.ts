import { grant, grantAudience, grantScope, narrowing } from './grant.ts'

/** A confidential client gets an access token of its own, RFC 6749 §4.4. Nothing is stored: no refresh token. */
export const clientCredentials = grant({
  parameters: narrowing,

  async handle({ config, accessTokens }, { client, form }) {
    const names = grantScope(client, form.scope, { ofUser: false, config })
    const scope = names.length > 0 && { scope: names.join(' ') }
    const subject = {
      aud: grantAudience(client, form.resource, config),
      sub: client.id,
      client_id: client.id,
      ...scope,
      generations: { user: 0, client: client.generation },
    }
    return {
      access_token: await accessTokens.issue(subject),
      token_type: 'Bearer',
      expires_in: accessTokens.ttlSeconds,
      ...scope,
    }
  },
})
