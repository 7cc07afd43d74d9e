import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Refusal } from '../../errors.ts'
import { type Client, parseScope } from '../../plugins/clients/clients.ts'
import { acceptForms } from '../../plugins/http/form.ts'
import { acceptMultipart } from '../../plugins/http/multipart.ts'
import { grantTypes } from '../../schemas/clients.ts'
import { RefreshToken, TokenResponse } from '../../schemas/oauth.ts'
import { PresentedPassword, Scope, Username } from '../../schemas/parts.ts'
import { oauthResponses } from '../../schemas/responses.ts'
import { maybeWithClient } from '../../schemas/security.ts'

/** The parameters of all grants; those that a grant does not know are ignored, RFC 6749 §3.2. The empty examples make /docs send a login. */
const TokenForm = Type.Object({
  grant_type: Type.Optional(
    Type.String({ description: '`password` when not sent, with a username and password', examples: grantTypes }),
  ),
  username: Type.Optional(Type.String({ examples: Username.examples })),
  password: Type.Optional(PresentedPassword),
  refresh_token: Type.Optional(Type.String({ description: RefreshToken.description as string, examples: [''] })),
  scope: Type.Optional(Type.String({ description: Scope.description as string, examples: [''] })),
  resource: Type.Optional(
    Type.String({ description: 'RFC 8707: which of the audiences of the client the token is for', examples: [''] }),
  ),
  client_id: Type.Optional(Type.String({ description: '`first-party` when not sent', examples: [''] })),
  client_secret: Type.Optional(Type.String({ examples: [''] })),
})
type TokenForm = Static<typeof TokenForm>

type Grant = (request: FastifyRequest, client: Client, form: TokenForm) => Promise<TokenResponse>

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, signIn, clients, clientAuthentication, accessTokens, sessions } = app
  await acceptForms(app)
  acceptMultipart(app)

  const grants = new Map<string, Grant>([
    [
      'password',
      async (request, client, form) => {
        const [username, password] = [required(form, 'username'), required(form, 'password')]
        const asked = {
          scope: clients.grantScope(client, form.scope, 'password'),
          aud: clients.grantAudience(client, form.resource),
        }
        const step = await signIn.withPassword(request.caller, username, password)
        if ('done' in step) return sessions.open(request, step.done, client, asked)
        return step satisfies never
      },
    ],
    [
      'refresh_token',
      async (request, client, form) => {
        const token = required(form, 'refresh_token')
        const aud = clients.grantAudience(client, form.resource)
        return sessions.refresh(request, token, client, { aud, ...(form.scope && { scope: parseScope(form.scope) }) })
      },
    ],
    [
      'client_credentials',
      async (_request, client, form) => {
        const scope = clients.grantScope(client, form.scope, 'client_credentials').join(' ')
        const subject = { sub: client.id, client_id: client.id, ...(scope && { scope }) }
        const generations = { user: 0, client: client.generation }
        const aud = clients.grantAudience(client, form.resource)
        return {
          // Nothing is stored, so the signature is most of the work, and another core may do it.
          access_token: await accessTokens.issue({ ...subject, aud, generations }, 'pool'),
          token_type: 'Bearer',
          expires_in: accessTokens.ttlSeconds,
          ...(scope && { scope }),
        }
      },
    ],
  ])
  if (config.AUTH_PASSWORD_GRANT === 'off') grants.delete('password')

  app.post(
    '/token',
    {
      config: { errors: 'oauth' },
      schema: {
        operationId: 'getTokens',
        summary: 'Get tokens: log in, refresh, or get one for a service itself',
        tags: ['tokens'],
        security: maybeWithClient,
        consumes: ['application/x-www-form-urlencoded', 'multipart/form-data'],
        body: TokenForm,
        response: { 200: TokenResponse, ...oauthResponses(400, 401, 413, 415, 429, 503) },
      },
    },
    async (request, reply) => {
      const form = request.body
      reply.header('pragma', 'no-cache')
      const client = await clientAuthentication.identify(request.caller, request.headers.authorization, form)
      const grantType = form.grant_type ?? impliedGrant(form)
      if (!grantType) throw missing(form.grant_type === undefined ? missingOf(form) : 'grant_type')
      const grant = grants.get(grantType)
      if (!grant) throw new Refusal('unsupported_grant_type')
      if (!client.grants.includes(grantType)) throw new Refusal('unauthorized_client')
      return grant(request, client, form)
    },
  )
}

/** FastAPI's OAuth2PasswordRequestForm, and many a tutorial, log in without saying which grant it is. */
const impliedGrant = ({ username, password }: TokenForm) =>
  username !== undefined && password !== undefined ? 'password' : undefined

/** Half a login is told of its other half. */
const missingOf = ({ username, password }: TokenForm) =>
  username !== undefined ? 'password' : password !== undefined ? 'username' : 'grant_type'

function required(form: TokenForm, name: 'username' | 'password' | 'refresh_token'): string {
  const value = form[name]
  if (!value) throw missing(name)
  return value
}

const missing = (name: string) => new Refusal('invalid_request', { detail: `The parameter ${name} is missing` })

export default plugin
