import { Type } from '@sinclair/typebox'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { Refusal } from '../../errors.ts'
import { type Parameters, parameterOf, wrongRequest } from '../../plugins/authorization/parameters.ts'
import { toRefusal } from '../../plugins/http/errors.ts'
import { AuthorizationParameters } from '../../schemas/authorization.ts'
import { sendError } from './answers.ts'

const page = (description: string) => ({ description, content: { 'text/html': { schema: Type.String() } } })

/** The authorization endpoint, RFC 6749 §3.1: where an app sends a browser to have its user sign in. */
const plugin: FastifyPluginAsync = async (app) => {
  const { authorization, browserSessions, pushedRequests } = app
  app.setErrorHandler((error, request, reply) => sendError(reply, toRefusal(error, request), 'app'))

  async function authorize(request: FastifyRequest, reply: FastifyReply, came: Parameters): Promise<FastifyReply> {
    const pushed = await pushedRequests.take(came)
    const parameters = pushed ?? came
    // Where pages look for their language.
    request.query = parameters
    const destination = await authorization.destination(parameters)
    const { redirectUri } = destination
    const responseMode = parameterOf(parameters, 'response_mode') === 'form_post' ? 'form_post' : 'query'
    const returning = { redirectUri, responseMode, state: parameterOf(parameters, 'state') } as const
    try {
      if (destination.client.requirePar && !pushed) throw wrongRequest('The client has to push its requests, to /par')
      const asked = await authorization.read(destination, parameters)
      return await authorization.goOn(request, reply, asked, await browserSessions.of(request))
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      return authorization.refuse(reply, returning, error)
    }
  }

  app.get(
    '/authorize',
    {
      schema: {
        operationId: 'authorize',
        summary: 'Have a user sign in in the browser, to an authorization code (RFC 6749 §4.1, OpenID Connect)',
        description:
          'For browsers: it answers with a redirect to the app, with `code` or `error`, and `state` and `iss`; or to a ' +
          'page of the service, where the user has to do something. Where the client or its `redirect_uri` is not good, ' +
          'it answers with a page.',
        tags: ['browser'],
        querystring: AuthorizationParameters,
        response: {
          200: page('A form that sends itself to the app, for `response_mode=form_post`'),
          303: Type.Null({ description: 'To the app, or to a page of the service' }),
          400: page('The client or its `redirect_uri` is not good'),
        },
      },
      // It gives a code, and spends what was pushed.
      exposeHeadRoute: false,
      // What is wrong is told to the app, once it is known that it may be: `plugins/authorization/request.ts`.
      validatorCompiler: () => () => true,
    },
    async (request, reply) => authorize(request, reply, request.query as Parameters),
  )

  // From any site, so no cookie comes with it (SameSite=Lax), and nobody would be signed in.
  app.post('/authorize', { schema: { hide: true }, config: { isForAnySite: true } }, async ({ body }, reply) =>
    reply.redirect(`${app.publicPath}/authorize?${new URLSearchParams(body as Record<string, string>)}`, 303),
  )
}

export default plugin
