import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { acceptForms } from '../../plugins/http/form.ts'
import { AuthorizationParameters } from '../../schemas/authorization.ts'
import { clientCredentials } from '../../schemas/oauth.ts'
import { oauthResponses } from '../../schemas/responses.ts'
import { maybeWithClient } from '../../schemas/security.ts'

const { request_uri: _, ...parameters } = AuthorizationParameters.properties
const Body = Type.Partial(Type.Object({ ...parameters, ...clientCredentials }))

/** Requests for authorization that do not go through the browser, RFC 9126. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { clientAuthentication, pushedRequests } = app
  await acceptForms(app)

  app.post(
    '/par',
    {
      config: { errors: 'oauth' },
      schema: {
        operationId: 'pushAuthorizationRequest',
        summary: 'Push a request for authorization, and get a name for it (RFC 9126)',
        description:
          'Takes the parameters of `/authorize`. Send the browser there with `client_id` and the `request_uri` of the ' +
          'answer: nobody sees the request on the way, or changes it.',
        tags: ['browser'],
        security: maybeWithClient,
        consumes: ['application/x-www-form-urlencoded'],
        body: Body,
        response: {
          201: Type.Object(
            {
              request_uri: Type.String({ examples: ['urn:ietf:params:oauth:request_uri:lkq_…'] }),
              expires_in: Type.Integer({ description: 'Seconds', examples: [60] }),
            },
            { description: 'Good once, for this client' },
          ),
          ...oauthResponses(400, 401, 413, 415, 429, 503),
        },
      },
    },
    async ({ caller, headers, body }, reply) => {
      const { client_secret: _, ...form } = body as Record<string, string>
      const client = await clientAuthentication.identify(caller, headers.authorization, body)
      const { requestUri, ttlSeconds } = await pushedRequests.push(caller, client, form)
      return reply.code(201).send({ request_uri: requestUri, expires_in: ttlSeconds })
    },
  )
}

export default plugin
