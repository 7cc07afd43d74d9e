import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyBaseLogger } from 'fastify'
import { Refusal } from '../../errors.ts'
import type { Client } from '../../plugins/clients/clients.ts'
import { ignoreBodies } from '../../plugins/http/bodies.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { AdminClient, ClientSecret, Introspect, NextCursor, PageQuery } from '../../schemas/admin.ts'
import { Audience, ClientId, ClientType, GrantTypes, ScopeNames } from '../../schemas/clients.ts'
import { problemResponses } from '../../schemas/errors.ts'
import { toTimestamp } from '../../schemas/parts.ts'
import { allowNoBody, anyText, common, nextCursor, readPage } from './shared.ts'

const daySeconds = 86_400
const longestOverlapSeconds = 30 * daySeconds

const params = Type.Object({ id: ClientId })

/** Who may ask for tokens. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { clients, now } = app
  acceptJson(app)

  app.get(
    '/admin/clients',
    {
      schema: {
        operationId: 'adminListClients',
        ...common,
        summary: 'The clients, in the order of their ids',
        querystring: Type.Object(PageQuery, { additionalProperties: false }),
        response: {
          200: Type.Object({ clients: Type.Array(AdminClient), next_cursor: NextCursor }),
          ...problemResponses(400, 401, 403, 503),
        },
      },
    },
    async ({ query }) => {
      const { rows, next } = await clients.list(readPage(query, anyText))
      return { clients: rows.map((client) => shown(client, now())), ...nextCursor(next) }
    },
  )

  app.post(
    '/admin/clients',
    {
      schema: {
        operationId: 'adminCreateClient',
        ...common,
        summary: 'Make a client; a confidential one gets a secret',
        body: Type.Object(
          {
            client_id: ClientId,
            type: Type.Optional(ClientType),
            grants: Type.Optional(GrantTypes),
            scopes: Type.Optional(ScopeNames),
            audience: Type.Optional(Audience),
            introspect: Type.Optional(Introspect),
          },
          { additionalProperties: false },
        ),
        response: {
          201: Type.Composite([AdminClient, Type.Object({ client_secret: Type.Optional(ClientSecret) })]),
          ...problemResponses(400, 401, 403, 409, 413, 415, 503),
        },
      },
    },
    async (request, reply) => {
      // As in AUTH_CLIENTS_FILE.
      const { client_id: id, type = 'confidential', scopes = [], audience = [], introspect = false } = request.body
      const { grants = type === 'confidential' ? ['client_credentials'] : [] } = request.body
      const definition = { id, type, grants, scopes, audience, introspect: toRight(introspect) }
      const { client, secret } = await clients.create(request.log, definition)
      reply.code(201).header('location', `${app.publicPath}/admin/clients/${encodeURIComponent(id)}`)
      return { ...shown(client, now()), ...(secret !== undefined && { client_secret: secret }) }
    },
  )

  app.get(
    '/admin/clients/:id',
    {
      schema: {
        operationId: 'adminGetClient',
        ...common,
        summary: 'One client',
        params,
        response: { 200: AdminClient, ...problemResponses(401, 403, 404, 503) },
      },
    },
    async ({ params }) => shown(await clients.get(params.id), now()),
  )

  app.post(
    '/admin/clients/:id/rotate-secret',
    {
      preValidation: allowNoBody,
      schema: {
        operationId: 'adminRotateClientSecret',
        ...common,
        summary: 'Make another secret; the one before stays good for a while',
        params,
        body: Type.Object(
          {
            overlap_seconds: Type.Optional(
              Type.Integer({
                minimum: 0,
                maximum: longestOverlapSeconds,
                description:
                  'how long the secret before stays good, a day when not sent; 0 when it has leaked: its access tokens are refused too',
              }),
            ),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({ client_id: ClientId, client_secret: ClientSecret }),
          ...problemResponses(400, 401, 403, 404, 413, 415, 503),
        },
      },
    },
    async (request) => {
      const { id } = request.params
      const secret = await clients.rotateSecret(request.log, id, request.body.overlap_seconds ?? daySeconds)
      return { client_id: id, client_secret: secret }
    },
  )

  await app.register(withoutBodies)
}

/** What is asked for without a body. */
const withoutBodies: FastifyPluginAsyncTypebox = async (app) => {
  const { clients } = app
  app.removeAllContentTypeParsers()
  ignoreBodies(app)

  async function remove(log: FastifyBaseLogger, id: string): Promise<void> {
    const { isDeclared } = await clients.get(id)
    // It would be back with the next start, of which nobody would think.
    const advice = 'disable it, or take it out of AUTH_CLIENTS_FILE and restart'
    if (isDeclared) throw new Refusal('invalid_request', { detail: `The client is declared: ${advice}` })
    await clients.remove(log, id)
  }

  const routes = [
    ['DELETE', '', 'adminDeleteClient', 'Delete a client; its tokens are refused', 'The client is gone', remove],
    [
      'POST',
      '/disable',
      'adminDisableClient',
      'Refuse a client, and its tokens',
      'The client is disabled',
      clients.disable,
    ],
    ['POST', '/enable', 'adminEnableClient', 'Let a disabled client in again', 'The client is enabled', clients.enable],
  ] as const
  for (const [method, path, operationId, summary, description, act] of routes) {
    app.route({
      method,
      url: `/admin/clients/:id${path}`,
      schema: {
        operationId,
        ...common,
        summary,
        params,
        response: { 204: Type.Null({ description }), ...problemResponses(400, 401, 403, 404, 409, 503) },
      },
      handler: async (request, reply) => {
        const { id } = request.params
        if (id === request.token.sub)
          throw new Refusal('own_account', { detail: 'This would end your own administration: an administrator can' })
        await act(request.log, id)
        return reply.code(204).send(null)
      },
    })
  }
}

const toRight = (introspect: boolean | 'all'): Client['introspect'] =>
  introspect === 'all' ? 'all' : introspect ? 'audience' : 'none'

function shown(client: Client, now: number): Static<typeof AdminClient> {
  const { id, type, grants, scopes, audience, introspect, isDeclared, createdAt, disabledAt } = client
  return {
    ...{ client_id: id, type, scopes, audience, declared: isDeclared, created_at: toTimestamp(createdAt) },
    grants: grants as Static<typeof GrantTypes>,
    introspect: introspect === 'all' ? 'all' : introspect === 'audience',
    ...(disabledAt !== undefined && { disabled_at: toTimestamp(disabledAt) }),
    secrets: client.secrets
      .filter(({ expiresAt }) => expiresAt === undefined || expiresAt > now)
      .map(({ createdAt, expiresAt }) => ({
        created_at: toTimestamp(createdAt),
        ...(expiresAt !== undefined && { expires_at: toTimestamp(expiresAt) }),
      })),
  }
}

export default plugin
