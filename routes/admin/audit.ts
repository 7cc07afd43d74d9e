import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { isUuid } from '../../domain/ids.ts'
import { isUsername, mapUsername } from '../../domain/usernames.ts'
import { AuditEvent, toAuditEvent } from '../../schemas/audit.ts'
import { strictObject } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { AuditQuery, Next, readAuditQuery } from '../audit-pages.ts'
import { adminRoute } from './actions.ts'

const text = (description: string) => Type.Optional(Type.String({ pattern: '\\S', maxLength: 1016, description }))

/** What happened, for administrators. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { store, now } = app

  app.get(
    '/admin/audit',
    {
      schema: {
        operationId: 'adminListAudit',
        ...adminRoute,
        summary: 'List what happened, newest first',
        querystring: strictObject({
          ...AuditQuery,
          user: text('Only of this user: a name, in any spelling, or an id'),
          client: text('Only of this client'),
        }),
        response: {
          200: Type.Object({ events: Type.Array(AuditEvent), next: Next }),
          ...problemResponses(400, 401, 403, 503),
        },
      },
    },
    async ({ query }) => {
      const { filter, page } = readAuditQuery(query, now())
      if (query.client !== undefined) filter.client = query.client
      if (query.user !== undefined) {
        const id = await idOf(query.user)
        if (id === undefined) return { events: [] }
        filter.user = id
      }
      const { rows, next } = await store.listAudit(filter, page)
      return { events: rows.map(toAuditEvent), ...(next !== undefined && { next }) }
    },
  )

  /** A user who was deleted has an id alone. */
  async function idOf(user: string): Promise<string | undefined> {
    const found = isUsername(user) ? await store.findUserByName(mapUsername(user)) : undefined
    return found?.id ?? (isUuid(user.toLowerCase()) ? user.toLowerCase() : undefined)
  }
}

export default plugin
