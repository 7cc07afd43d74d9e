import { Type } from '@fastify/type-provider-typebox'
import { PresentedPassword, Username } from '../../../schemas/parts.ts'
import { grant, grantAudience, grantScope, narrowing, required } from './grant.ts'

/** A user signs in and gets a session, RFC 6749 §4.3. */
export const password = grant({
  parameters: {
    username: Type.Optional(Type.String({ description: 'A name or a verified address', examples: Username.examples })),
    password: Type.Optional(PresentedPassword),
    ...narrowing,
  },
  served: { check: 'password_grant', when: ({ AUTH_PASSWORD_GRANT }) => AUTH_PASSWORD_GRANT === 'on' },

  async handle({ config, signIn, challenges, sessions }, { caller, client, form }) {
    const username = required(form, 'username')
    const password = required(form, 'password')
    // Before the password is checked: what is refused anyway costs no hash.
    const granted = {
      scope: grantScope(client, form.scope, { ofUser: true, config }),
      aud: grantAudience(client, form.resource, config),
    }
    const step = await signIn.withPassword(caller, username, password)
    if ('done' in step) return sessions.open(caller, step.done, client, granted)
    if ('needs' in step) throw await challenges.afterPassword(caller, client, step.needs, granted)
    return step satisfies never
  },
})
