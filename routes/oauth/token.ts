import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { checked, shortWord } from '../../domain/checks.ts'
import { type GrantType, grantTypes } from '../../domain/grant.ts'
import { missingParameter, Refusal } from '../../errors.ts'
import { acceptForms } from '../../plugins/http/form.ts'
import { acceptMultipart } from '../../plugins/http/multipart.ts'
import { clientCredentials, TokenResponse } from '../../schemas/oauth.ts'
import { oauthResponses } from '../../schemas/responses.ts'
import { maybeWithClient } from '../../schemas/security.ts'
import { checkGrant, grantParameters, grants, servedGrants } from './grants/index.ts'

const TokenForm = Type.Object({
  grant_type: Type.Optional(
    Type.String({ description: '`password` by default, with a username and password', examples: grantTypes }),
  ),
  ...grantParameters,
  ...clientCredentials,
})
type TokenForm = Static<typeof TokenForm>

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, clientAuthentication } = app
  await acceptForms(app)
  acceptMultipart(app)
  const served = servedGrants(config)

  function chooseGrant(form: TokenForm): GrantType {
    const asked = form.grant_type ?? impliedGrant(form)
    if (asked === '') throw missingParameter('grant_type')
    const type = served.find((type) => type === asked)
    if (type !== undefined) return type
    const isOff = grantTypes.find((known) => known === asked)
    const failed = isOff
      ? checked(grants[isOff].served?.check ?? 'grant_type', 'off')
      : checked('grant_type', shortWord(asked), served.join(', '))
    throw new Refusal('unsupported_grant_type', { checks: [failed] })
  }

  app.post(
    '/token',
    {
      config: { errors: 'oauth' },
      schema: {
        operationId: 'getTokens',
        summary: 'Get tokens: log in, refresh, or as a client itself',
        tags: ['tokens'],
        security: maybeWithClient,
        consumes: ['application/x-www-form-urlencoded', 'multipart/form-data'],
        body: TokenForm,
        response: { 200: TokenResponse, ...oauthResponses(400, 401, 413, 415, 429, 503) },
      },
    },
    async ({ caller, headers, body: form }, reply) => {
      reply.header('pragma', 'no-cache')
      const client = await clientAuthentication.identify(caller, headers.authorization, form)
      const type = chooseGrant(form)
      checkGrant(client, type)
      return grants[type].handle(app, { caller, client, form })
    },
  )
}

/**
 * FastAPI's OAuth2PasswordRequestForm, and many tutorials, log in without a `grant_type`.
 *
 * @throws {Refusal} naming what is missing
 */
function impliedGrant({ username, password }: Record<string, string | undefined>): GrantType {
  if (username !== undefined && password !== undefined) return 'password'
  throw missingParameter(username !== undefined ? 'password' : password !== undefined ? 'username' : 'grant_type')
}

export default plugin
