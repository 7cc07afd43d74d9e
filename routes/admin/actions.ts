import type { FastifyPluginAsyncTypebox, Static, TObject } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Caller } from '../../domain/caller.ts'
import { isUuid } from '../../domain/ids.ts'
import { Refusal } from '../../errors.ts'
import { ignoreBodies } from '../../plugins/http/bodies.ts'
import { Done, problemResponses } from '../../schemas/responses.ts'
import { withAdminToken } from '../../schemas/security.ts'

/** Members of the schema of every route of `/admin/`. */
export const adminRoute = { tags: ['admin'], security: withAdminToken }

/** The id of a user or session. Only a UUID can be one, and other texts include some that a store cannot look for. */
export function idFrom({ id }: { id: string }, what: 'user' | 'session'): string {
  if (isUuid(id)) return id
  throw unknown(what)
}

export const unknown = (what: 'user' | 'session') => new Refusal('not_found', { detail: `There is no such ${what}` })

/**
 * Refuses to let administrators disable, delete or demote themselves: so one is always left, without counting them.
 * (Two who remove each other at once need the command line.)
 */
export function refuseOwn({ token }: FastifyRequest, id: string): void {
  if (token.sub === id) throw new Refusal('own_account')
}

/** An act on one row: without a body, answered with 204. */
interface Action {
  /** method and path */
  route: `${'DELETE' | 'POST'} /admin/${string}`
  operationId: string
  summary: string
  /** refused with 409 where it would end the caller's own access to `/admin/` */
  notOwn?: boolean
  /** of other error responses than 401, 403, 404 and 503 */
  statuses?: number[]
  act(caller: Caller, id: string): Promise<unknown>
}

/**
 * The routes of some actions. They ignore any body, so they are a scope of their own.
 *
 * @param idOf reads the id out of the parameters of the path
 */
export const actions =
  <Params extends TObject>(
    params: Params,
    idOf: (params: Static<Params>) => string,
    list: Action[],
  ): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.removeAllContentTypeParsers()
    ignoreBodies(app)
    for (const { route, operationId, summary, statuses = [], notOwn = false, act } of list) {
      const [method = '', url = ''] = route.split(' ')
      app.route({
        method,
        url,
        schema: {
          operationId,
          ...adminRoute,
          summary,
          params,
          response: { 204: Done, ...problemResponses(401, 403, 404, 503, ...statuses, ...(notOwn ? [409] : [])) },
        },
        handler: async (request, reply) => {
          const id = idOf(request.params as Static<Params>)
          if (notOwn) refuseOwn(request, id)
          await act(request.caller, id)
          return reply.code(204).send(null)
        },
      })
    }
  }
