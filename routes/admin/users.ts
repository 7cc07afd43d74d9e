import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { adminScope } from '../../domain/client.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { User } from '../../domain/user.ts'
import { Refusal } from '../../errors.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { readTime, TimeQuery } from '../../plugins/http/times.ts'
import { Email, Id, Password, RoleNames, strictObject, Username } from '../../schemas/parts.ts'
import { Done, problemResponses } from '../../schemas/responses.ts'
import { AdminUser, ShownUser, toShownUser, toUser } from '../../schemas/users.ts'
import { anyText, creationPosition, NextPage, nextPage, PageQuery, readPage } from '../pages.ts'
import { actions, adminRoute, idFrom, refuseOwn } from './actions.ts'

const params = Type.Object({ id: Id })

/** Accounts, for administrators. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { users, userAdmin, throttle, now } = app
  acceptJson(app)

  app.get(
    '/admin/users',
    {
      schema: {
        operationId: 'adminListUsers',
        ...adminRoute,
        summary: 'List users',
        description:
          'By mapped name; with `created_after` and no `prefix` the oldest first. With both, a page may be short, or ' +
          'empty, and have a `next`.',
        querystring: strictObject({
          ...PageQuery,
          username: Type.Optional(
            Type.String({ pattern: '\\S', description: 'Only the user of this name, in any spelling' }),
          ),
          prefix: Type.Optional(
            Type.String({ pattern: '\\S', description: 'Only users whose names begin so, in any spelling' }),
          ),
          created_after: TimeQuery('Only users who were made after this time'),
        }),
        response: {
          200: Type.Object({ users: Type.Array(AdminUser), ...NextPage }),
          ...problemResponses(400, 401, 403, 503),
        },
      },
    },
    async ({ query }) => {
      const { username, prefix, created_after: time } = query
      if (username !== undefined && (prefix ?? time) !== undefined) {
        const detail = 'has to stand alone'
        throw new Refusal('invalid_request', {
          detail: `username ${detail}`,
          errors: [{ pointer: '/username', detail }],
        })
      }
      const page = readPage(query, time !== undefined && prefix === undefined ? creationPosition : anyText)
      if (username !== undefined) return { users: (await findNamed(username)).map(toUser) }
      const createdAfter = time === undefined ? undefined : readTime(time, now(), 'created_after')
      const { users: found, next } = await userAdmin.list(omitUndefined({ ...page, prefix, createdAfter }))
      return { users: found.map(toUser), ...nextPage(next) }
    },
  )

  async function findNamed(username: string): Promise<User[]> {
    try {
      return [await userAdmin.get({ username })]
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
        ...adminRoute,
        summary: 'Create an account, also while signup is closed',
        body: strictObject({ username: Username, password: Password, roles: Type.Optional(RoleNames) }),
        response: { 201: AdminUser, ...problemResponses(400, 401, 403, 409, 413, 415, 503) },
      },
    },
    async (request, reply) => {
      const { username, password, roles = [] } = request.body
      const user = await users.signUp(request.caller, { username, password, roles })
      reply.code(201).header('location', `${app.publicPath}/admin/users/${user.id}`)
      return toUser(user)
    },
  )

  app.get(
    '/admin/users/:id',
    {
      schema: {
        operationId: 'adminGetUser',
        ...adminRoute,
        summary: 'Get a user',
        params,
        response: { 200: ShownUser, ...problemResponses(401, 403, 404, 503) },
      },
    },
    async ({ params }) => {
      const user = await userAdmin.get({ id: idFrom(params, 'user') })
      return toShownUser(user, await throttle.failuresOf(user.nameKey))
    },
  )

  app.patch(
    '/admin/users/:id',
    {
      schema: {
        operationId: 'adminChangeUser',
        ...adminRoute,
        summary: 'Change the name, the address or the roles',
        description:
          'Members that are not sent stay as they are; `email: null` removes the address. Another address is not verified ' +
          'unless `email_verified` says so; the links that the user has been sent end, and the old address, if it was ' +
          'verified, is told. Removing a role ends all sessions.',
        params,
        body: strictObject({
          username: Type.Optional(Username),
          email: Type.Optional(Type.Union([Email, Type.Null()])),
          email_verified: Type.Optional(Type.Boolean()),
          roles: Type.Optional(RoleNames),
        }),
        response: { 200: AdminUser, ...problemResponses(400, 401, 403, 404, 409, 413, 415, 503) },
      },
    },
    async (request) => {
      const { email_verified: emailVerified, ...edit } = request.body
      const id = idFrom(request.params, 'user')
      if (edit.roles && !edit.roles.includes(adminScope)) refuseOwn(request, id)
      return toUser(await userAdmin.change(request.caller, id, omitUndefined({ ...edit, emailVerified })))
    },
  )

  app.put(
    '/admin/users/:id/roles',
    {
      schema: {
        operationId: 'adminSetRoles',
        ...adminRoute,
        summary: 'Set the roles; removing one ends all sessions',
        params,
        body: strictObject({ roles: RoleNames }),
        response: { 204: Done, ...problemResponses(400, 401, 403, 404, 409, 413, 415, 503) },
      },
    },
    async (request, reply) => {
      const { roles } = request.body
      const id = idFrom(request.params, 'user')
      if (!roles.includes(adminScope)) refuseOwn(request, id)
      await userAdmin.change(request.caller, id, { roles })
      return reply.code(204).send(null)
    },
  )

  app.put(
    '/admin/users/:id/password',
    {
      schema: {
        operationId: 'adminSetPassword',
        ...adminRoute,
        summary: 'Set a password; all sessions end',
        params,
        body: strictObject({ password: Password }),
        response: { 204: Done, ...problemResponses(400, 401, 403, 404, 413, 415, 503) },
      },
    },
    async (request, reply) => {
      await userAdmin.setPassword(request.caller, idFrom(request.params, 'user'), request.body.password)
      return reply.code(204).send(null)
    },
  )

  await app.register(
    actions(params, (params) => idFrom(params, 'user'), [
      {
        route: 'DELETE /admin/users/:id',
        operationId: 'adminDeleteUser',
        summary: 'Delete an account and its sessions',
        notOwn: true,
        act: userAdmin.delete,
      },
      {
        route: 'POST /admin/users/:id/disable',
        operationId: 'adminDisableUser',
        summary: 'Disable a user; all sessions end',
        notOwn: true,
        act: userAdmin.disable,
      },
      {
        route: 'POST /admin/users/:id/enable',
        operationId: 'adminEnableUser',
        summary: 'Re-enable a user',
        act: userAdmin.enable,
      },
    ]),
  )
}

export default plugin
