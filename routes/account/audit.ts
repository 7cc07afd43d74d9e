import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { asOwn } from '../../domain/audit.ts'
import { AuditEvent, toAuditEvent } from '../../schemas/audit.ts'
import { strictObject } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { withToken } from '../../schemas/security.ts'
import { AuditQuery, Next, readAuditQuery } from '../audit-pages.ts'

/** What happened to a user's own account. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { store, now } = app

  app.get(
    '/users/me/audit',
    {
      schema: {
        operationId: 'listOwnAudit',
        summary: 'List what happened to your account, newest first',
        tags: ['accounts'],
        security: withToken,
        querystring: strictObject(AuditQuery),
        response: {
          200: Type.Object({ events: Type.Array(AuditEvent), next: Next }),
          ...problemResponses(400, 401, 403, 503),
        },
      },
    },
    async ({ query, token }) => {
      const { filter, page } = readAuditQuery(query, now())
      const { rows, next } = await store.listAudit({ ...filter, user: token.sub }, page)
      return { events: rows.map((row) => toAuditEvent(asOwn(row))), ...(next !== undefined && { next }) }
    },
  )
}

export default plugin
