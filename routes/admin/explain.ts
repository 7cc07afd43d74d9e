import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { isUuid } from '../../domain/ids.ts'
import { Refusal } from '../../errors.ts'
import { Explanation, toExplanation } from '../../schemas/explanations.ts'
import { Id } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { adminRoute } from './actions.ts'

/** Why a request was refused, for administrators. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { explanations } = app

  app.get(
    '/admin/explain/:id',
    {
      schema: {
        operationId: 'adminExplain',
        ...adminRoute,
        summary: 'Explain why a request was refused, by its x-request-id',
        params: Type.Object({ id: Id }),
        response: { 200: Explanation, ...problemResponses(401, 403, 404, 503) },
      },
    },
    async ({ params: { id } }) => {
      const requestId = id.toLowerCase()
      const found = isUuid(requestId) ? await explanations.find(requestId) : undefined
      if (found) return toExplanation(found)
      throw new Refusal('not_found', {
        detail:
          'Nothing is kept of a request with this x-request-id: it was not refused, or longer ago than ' +
          'AUTH_EXPLAIN_RETENTION, or only the memory of another process has it (docs/explain.md)',
      })
    },
  )
}

export default plugin
