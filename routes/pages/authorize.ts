import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { Refusal } from '../../errors.ts'
import { type Parameters, parameterOf } from '../../plugins/authorization/parameters.ts'

/** The authorization endpoint, RFC 6749 §3.1: where an app sends a browser to have its user sign in. */
const plugin: FastifyPluginAsync = async (app) => {
  const { authorization, browserSessions } = app

  async function authorize(request: FastifyRequest, reply: FastifyReply, came: Parameters): Promise<FastifyReply> {
    const parameters = await unpushed(app, came)
    const destination = await authorization.destination(parameters)
    const { redirectUri } = destination
    const responseMode = parameterOf(parameters, 'response_mode') === 'form_post' ? 'form_post' : 'query'
    const returning = { redirectUri, responseMode, state: parameterOf(parameters, 'state') } as const
    try {
      const asked = await authorization.read(destination, parameters)
      return await authorization.goOn(request, reply, asked, await browserSessions.of(request))
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      return authorization.refuse(reply, returning, error)
    }
  }

  app.get('/authorize', { schema: { hide: true } }, async (request, reply) =>
    authorize(request, reply, request.query as Parameters),
  )

  // From any site, so no cookie comes with it (SameSite=Lax), and nobody would be signed in.
  app.post('/authorize', { schema: { hide: true }, config: { isForAnySite: true } }, async ({ body }, reply) =>
    reply.redirect(`${app.publicPath}/authorize?${new URLSearchParams(body as Record<string, string>)}`, 303),
  )
}

/** The parameters of a request that was pushed, in the place of its name (RFC 9126 §4). */
async function unpushed(_app: FastifyInstance, parameters: Parameters): Promise<Parameters> {
  return parameters
}

export default plugin
