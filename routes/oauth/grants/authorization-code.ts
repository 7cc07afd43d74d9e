import { Type } from '@fastify/type-provider-typebox'
import { codeRefused } from '../../../plugins/factors/codes.ts'
import { grant, required } from './grant.ts'

/** Trades the code of a sign-in for tokens, RFC 6749 §4.1.3: a session is opened, or the one of a step-up raised. */
export const authorizationCode = grant({
  parameters: {
    code: Type.Optional(Type.String({ description: 'What the sign-in ended with', examples: [''] })),
    code_verifier: Type.Optional(
      Type.String({ description: 'RFC 7636: of the code_challenge, where one was sent', examples: [''] }),
    ),
    redirect_uri: Type.Optional(
      Type.String({
        description: 'Of the request at `/authorize`, again; a code of `POST /challenge` has none',
        examples: [''],
      }),
    ),
  },

  async handle({ store, codes, sessions, events }, { caller, client, form }) {
    const code = required(form, 'code')
    const proof = { verifier: form.code_verifier || undefined, redirectUri: form.redirect_uri || undefined }
    const presented = await codes.present(client, code, proof)
    const answer = 'gave' in presented ? undefined : await sessions.openByCode(caller, client, presented)
    if (answer) return answer
    const spent = 'gave' in presented ? presented : await codes.present(client, code, proof)
    if ('gave' in spent) {
      const session = await store.findSession(spent.gave)
      if (session?.clientId === client.id) {
        await sessions.end(caller, session.id, session.userId)
        events.emit(caller, 'code.reused', { client_id: client.id, sid: session.id })
      }
      throw codeRefused('it came a second time, and what it gave was ended')
    }
    throw codeRefused('its user has changed, or may not have tokens')
  },
})
