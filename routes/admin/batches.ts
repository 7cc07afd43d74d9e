import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Refusal } from '../../errors.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { Id, strictObject } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { adminRoute, idFrom, refuseOwn, unknown } from './actions.ts'

/** Each is a step of the store of its own: other requests get their turn in between. */
const atOnce = 10

const Batch = strictObject({
  ids: Type.Array(Id, { minItems: 1, maxItems: 100, uniqueItems: true, description: 'Ids of 1 to 100 users' }),
})

const Results = Type.Object({
  results: Type.Array(
    Type.Object({
      id: Id,
      ok: Type.Boolean(),
      error: Type.Optional(Type.String({ description: 'The code of an error', examples: ['not_found'] })),
    }),
    { description: 'One for each id, in their order' },
  ),
})

/** The same act on many users, each with its own result. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { userAdmin, sessions } = app
  acceptJson(app)

  const acts = {
    disable: {
      operationId: 'adminDisableUsers',
      summary: 'Disable many users; all their sessions end',
      async act(request: FastifyRequest, id: string) {
        refuseOwn(request, id)
        await userAdmin.disable(request.caller, id)
      },
    },
    'end-sessions': {
      operationId: 'adminEndSessionsOfUsers',
      summary: 'End all sessions of many users',
      async act({ caller }: FastifyRequest, id: string) {
        if (!(await sessions.endAll(caller, id))) throw unknown('user')
      },
    },
  }

  for (const [verb, { act, ...described }] of Object.entries(acts)) {
    const actOn = async (request: FastifyRequest, id: string) => {
      try {
        await act(request, idFrom({ id }, 'user'))
        return { id, ok: true }
      } catch (error) {
        if (!(error instanceof Refusal)) throw error
        return { id, ok: false, error: error.code }
      }
    }
    app.post(
      `/admin/users/${verb}`,
      {
        schema: {
          ...adminRoute,
          ...described,
          description: 'A 503 may come after some of it is done: send it again.',
          body: Batch,
          response: { 200: Results, ...problemResponses(400, 401, 403, 413, 415, 503) },
        },
      },
      async (request) => {
        const { ids } = request.body
        const results = []
        for (let i = 0; i < ids.length; i += atOnce)
          results.push(...(await Promise.all(ids.slice(i, i + atOnce).map((id) => actOn(request, id)))))
        return { results }
      },
    )
  }
}

export default plugin
