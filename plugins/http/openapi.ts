import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import type { createDocumentation } from './documentation.ts'

const paths = ['/docs', '/docs/', '/docs/json', '/docs/yaml', '/docs/static/*', '/openapi.json']

/**
 * Describes every route by OpenAPI 3.1, from the schemas that it is checked by: `/openapi.json`, and `/docs` to try it.
 * Here are the paths; what answers is made at the first request for it.
 */
export default fp(
  async (app: FastifyInstance, { version }: { version: string }) => {
    const { publicPath } = app
    const routes: RouteOptions[] = []
    app.addHook('onRoute', (route) => {
      if (!(route.schema as { hide?: boolean } | undefined)?.hide && route.method !== 'HEAD') routes.push(route)
    })

    let made: ReturnType<typeof createDocumentation> | undefined
    /** One that could not be made is tried again by the next request. */
    async function make() {
      const { createDocumentation } = await import('./documentation.ts')
      return createDocumentation(routes, { version, publicPath })
    }
    async function answer(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
      made ??= make().catch((error) => {
        made = undefined
        throw error
      })
      return (await made)(request, reply)
    }
    for (const path of paths) app.get(path, { schema: { hide: true } }, answer)
  },
  { name: 'openapi' },
)
