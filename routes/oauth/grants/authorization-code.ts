import { Type } from '@fastify/type-provider-typebox'
import { grant, required } from './grant.ts'
import { tradeOnce } from './once.ts'

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

  async handle(app, { caller, client, form }) {
    const code = required(form, 'code')
    const proof = { verifier: form.code_verifier || undefined, redirectUri: form.redirect_uri || undefined }
    return tradeOnce(app, { caller, client }, () => app.codes.present(client, code, proof))
  },
})
