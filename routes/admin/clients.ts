import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { Caller } from '../../domain/caller.ts'
import { adminScope } from '../../domain/client.ts'
import { Refusal } from '../../errors.ts'
import { allowNoBody } from '../../plugins/http/bodies.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import {
  AdminClient,
  ClientId,
  ClientSecret,
  changedClientMembers,
  newClientMembers,
  toChanges,
  toClient,
  toDefinition,
} from '../../schemas/clients.ts'
import { strictObject } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { anyText, NextPage, nextPage, PageQuery, readPage } from '../pages.ts'
import { actions, adminRoute, refuseOwn } from './actions.ts'

const daySeconds = 86_400
const maxOverlapSeconds = 30 * daySeconds

const params = Type.Object({ id: ClientId })

/** Clients, for administrators. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { clients, now } = app
  acceptJson(app)

  app.get(
    '/admin/clients',
    {
      schema: {
        operationId: 'adminListClients',
        ...adminRoute,
        summary: 'List clients, by id',
        querystring: strictObject(PageQuery),
        response: {
          200: Type.Object({ clients: Type.Array(AdminClient), ...NextPage }),
          ...problemResponses(400, 401, 403, 503),
        },
      },
    },
    async ({ query }) => {
      const { clients: rows, next } = await clients.list(readPage(query, anyText))
      return { clients: rows.map((client) => toClient(client, now())), ...nextPage(next) }
    },
  )

  app.post(
    '/admin/clients',
    {
      schema: {
        operationId: 'adminCreateClient',
        ...adminRoute,
        summary: 'Create a client; a confidential one gets a secret',
        body: strictObject({ client_id: ClientId, ...newClientMembers }),
        response: {
          201: Type.Composite([AdminClient, Type.Object({ client_secret: Type.Optional(ClientSecret) })]),
          ...problemResponses(400, 401, 403, 409, 413, 415, 503),
        },
      },
    },
    async (request, reply) => {
      const { type = 'confidential', ...members } = request.body
      const { client, secret } = await clients.create(request.caller, toDefinition({ ...members, type }))
      reply.code(201).header('location', `${app.publicPath}/admin/clients/${encodeURIComponent(client.id)}`)
      return { ...toClient(client, now()), ...(secret !== undefined && { client_secret: secret }) }
    },
  )

  app.get(
    '/admin/clients/:id',
    {
      schema: {
        operationId: 'adminGetClient',
        ...adminRoute,
        summary: 'Get a client',
        params,
        response: { 200: AdminClient, ...problemResponses(401, 403, 404, 503) },
      },
    },
    async ({ params }) => toClient(await clients.get(params.id), now()),
  )

  app.patch(
    '/admin/clients/:id',
    {
      schema: {
        operationId: 'adminChangeClient',
        ...adminRoute,
        summary: 'Change a client',
        description:
          'Members that are not sent stay as they are, lists are replaced, and `null` takes `name` and ' +
          '`backchannel_logout_uri` away. Sessions go on, with what the client may still have from their next refresh on. ' +
          'A client of AUTH_CLIENTS_FILE is changed there.',
        params,
        body: strictObject(changedClientMembers),
        response: { 200: AdminClient, ...problemResponses(400, 401, 403, 404, 409, 413, 415, 503) },
      },
    },
    async (request) => {
      const { id } = request.params
      if (request.body.scopes && !request.body.scopes.includes(adminScope)) refuseOwn(request, id)
      return toClient(await clients.edit(request.caller, id, toChanges(request.body)), now())
    },
  )

  app.post(
    '/admin/clients/:id/rotate-secret',
    {
      preValidation: allowNoBody,
      schema: {
        operationId: 'adminRotateClientSecret',
        ...adminRoute,
        summary: 'Rotate the secret; the old one stays valid for a while',
        params,
        body: strictObject({
          overlap_seconds: Type.Optional(
            Type.Integer({
              minimum: 0,
              maximum: maxOverlapSeconds,
              description:
                'How long the old secret stays valid, a day by default. 0 after a leak: access tokens are refused',
            }),
          ),
        }),
        response: {
          200: Type.Object({ client_id: ClientId, client_secret: ClientSecret }),
          ...problemResponses(400, 401, 403, 404, 413, 415, 503),
        },
      },
    },
    async (request) => {
      const { id } = request.params
      const secret = await clients.rotateSecret(request.caller, id, request.body.overlap_seconds ?? daySeconds)
      return { client_id: id, client_secret: secret }
    },
  )

  async function remove(caller: Caller, id: string): Promise<void> {
    const { isDeclared } = await clients.get(id)
    // The next start would bring it back.
    const advice = 'disable it, or take it out of AUTH_CLIENTS_FILE and restart'
    if (isDeclared) throw new Refusal('invalid_request', { detail: `The client is declared: ${advice}` })
    await clients.remove(caller, id)
  }

  await app.register(
    actions(params, ({ id }) => id, [
      {
        route: 'DELETE /admin/clients/:id',
        operationId: 'adminDeleteClient',
        summary: 'Delete a client; its tokens are refused',
        notOwn: true,
        statuses: [400],
        act: remove,
      },
      {
        route: 'POST /admin/clients/:id/disable',
        operationId: 'adminDisableClient',
        summary: 'Disable a client; its tokens are refused',
        notOwn: true,
        act: clients.disable,
      },
      {
        route: 'POST /admin/clients/:id/enable',
        operationId: 'adminEnableClient',
        summary: 'Re-enable a client',
        act: clients.enable,
      },
    ]),
  )
}

export default plugin
