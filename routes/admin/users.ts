import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { User } from '../../domain/user.ts'
import { Refusal } from '../../errors.ts'
import { adminScope } from '../../plugins/clients/clients.ts'
import { ignoreBodies } from '../../plugins/http/bodies.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { AdminUser, NextCursor, PageQuery } from '../../schemas/admin.ts'
import { problemResponses } from '../../schemas/errors.ts'
import { Id, Password, RoleNames, toTimestamp, Username } from '../../schemas/parts.ts'
import { anyText, common, idFrom, nextCursor, readPage } from './shared.ts'

const params = Type.Object({ id: Id })

/** The accounts of others. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { users } = app
  acceptJson(app)

  app.get(
    '/admin/users',
    {
      schema: {
        operationId: 'adminListUsers',
        ...common,
        summary: 'The users, in the order of their names',
        querystring: Type.Object(
          {
            ...PageQuery,
            username: Type.Optional(
              Type.String({ pattern: '\\S', description: 'only the one of this name, in any spelling of it' }),
            ),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({ users: Type.Array(AdminUser), next_cursor: NextCursor }),
          ...problemResponses(400, 401, 403, 503),
        },
      },
    },
    async ({ query }) => {
      const page = readPage(query, anyText)
      if (query.username !== undefined) return { users: (await findNamed(query.username)).map(shown) }
      const { users: found, next } = await users.list(page)
      return { users: found.map(shown), ...nextCursor(next) }
    },
  )

  async function findNamed(username: string): Promise<User[]> {
    try {
      return [await users.get({ username })]
    } catch (error) {
      if (error instanceof Refusal && error.code === 'not_found') return []
      throw error
    }
  }

  app.post(
    '/admin/users',
    {
      schema: {
        operationId: 'adminCreateUser',
        ...common,
        summary: 'Make an account, also while signup is closed',
        body: Type.Object(
          { username: Username, password: Password, roles: Type.Optional(RoleNames) },
          { additionalProperties: false },
        ),
        response: { 201: AdminUser, ...problemResponses(400, 401, 403, 409, 413, 415, 503) },
      },
    },
    async (request, reply) => {
      const { username, password, roles = [] } = request.body
      const user = await users.signUp(request, username, password, roles)
      reply.code(201).header('location', `${app.publicPath}/admin/users/${user.id}`)
      return shown(user)
    },
  )

  app.get(
    '/admin/users/:id',
    {
      schema: {
        operationId: 'adminGetUser',
        ...common,
        summary: 'One user',
        params,
        response: { 200: AdminUser, ...problemResponses(401, 403, 404, 503) },
      },
    },
    async ({ params }) => shown(await users.get({ id: idFrom(params, 'user') })),
  )

  app.put(
    '/admin/users/:id/roles',
    {
      schema: {
        operationId: 'adminSetRoles',
        ...common,
        summary: 'Set the roles; when one is taken away, the sessions end',
        params,
        body: Type.Object({ roles: RoleNames }, { additionalProperties: false }),
        response: {
          204: Type.Null({ description: 'The roles are set' }),
          ...problemResponses(400, 401, 403, 404, 409, 413, 415, 503),
        },
      },
    },
    async (request, reply) => {
      const { roles } = request.body
      const id = idFrom(request.params, 'user')
      if (!roles.includes(adminScope)) refuseOwn(request, id)
      await users.setRoles(request, id, roles)
      return reply.code(204).send(null)
    },
  )

  app.put(
    '/admin/users/:id/password',
    {
      schema: {
        operationId: 'adminSetPassword',
        ...common,
        summary: 'Set a password; all sessions end',
        params,
        body: Type.Object({ password: Password }, { additionalProperties: false }),
        response: {
          204: Type.Null({ description: 'The password is set' }),
          ...problemResponses(400, 401, 403, 404, 413, 415, 503),
        },
      },
    },
    async (request, reply) => {
      await users.setPassword(request, idFrom(request.params, 'user'), request.body.password)
      return reply.code(204).send(null)
    },
  )

  await app.register(withoutBodies)
}

/** What is asked for without a body. */
const withoutBodies: FastifyPluginAsyncTypebox = async (app) => {
  const { users } = app
  app.removeAllContentTypeParsers()
  ignoreBodies(app)

  const routes = [
    ['DELETE', '', 'adminDeleteUser', 'Delete an account, with its sessions', 'The account is gone', users.delete],
    [
      'POST',
      '/disable',
      'adminDisableUser',
      'End the sessions of a user, who cannot log in any more',
      'The user is disabled',
      users.disable,
    ],
    ['POST', '/enable', 'adminEnableUser', 'Let a disabled user log in again', 'The user is enabled', users.enable],
  ] as const
  for (const [method, path, operationId, summary, description, act] of routes) {
    app.route({
      method,
      url: `/admin/users/:id${path}`,
      schema: {
        operationId,
        ...common,
        summary,
        params,
        response: { 204: Type.Null({ description }), ...problemResponses(401, 403, 404, 409, 503) },
      },
      handler: async (request, reply) => {
        const id = idFrom(request.params, 'user')
        if (act !== users.enable) refuseOwn(request, id)
        await act(request, id)
        return reply.code(204).send(null)
      },
    })
  }
}

/**
 * Whoever is an administrator stays one until another says otherwise: so there is always one left, and nobody has to count them.
 * (Two who remove each other at once are what the command line is for. Those who want to leave delete their account themselves.)
 */
function refuseOwn({ token }: FastifyRequest, id: string): void {
  if (token.sub === id)
    throw new Refusal('own_account', { detail: 'This would end your own administration: another administrator can' })
}

const shown = ({ id, username, roles, createdAt, disabledAt }: User): Static<typeof AdminUser> => ({
  ...{ id, username, roles, created_at: toTimestamp(createdAt) },
  ...(disabledAt !== undefined && { disabled_at: toTimestamp(disabledAt) }),
})

export default plugin
