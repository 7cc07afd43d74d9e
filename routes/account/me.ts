import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { User } from '../../domain/user.ts'
import { tokenRefused } from '../../errors.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { Id, Password, PresentedPassword, Roles, Timestamp, toTimestamp, Username } from '../../schemas/parts.ts'
import { noContent, problemResponses } from '../../schemas/responses.ts'
import { withToken } from '../../schemas/security.ts'

const userGone = () => tokenRefused('invalid', 'the user of the token is gone')

/** A user's own account. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { users, profiles } = app
  acceptJson(app)

  async function self({ token }: FastifyRequest): Promise<User> {
    const user = await users.find(token.sub)
    if (!user) throw userGone()
    return user
  }

  app.get(
    '/users/me',
    {
      schema: {
        operationId: 'getProfile',
        summary: 'Get your profile',
        tags: ['accounts'],
        security: withToken,
        response: {
          200: Type.Object({ id: Id, username: Username, roles: Roles, created_at: Timestamp }),
          ...problemResponses(401, 403, 503),
        },
      },
    },
    async (request) => {
      const profile = await profiles.find(request.token.sub)
      if (!profile) throw userGone()
      const { id, username, roles, createdAt } = profile
      return { id, username, roles, created_at: toTimestamp(createdAt) }
    },
  )

  app.delete(
    '/users/me',
    {
      schema: {
        operationId: 'deleteAccount',
        summary: 'Delete your account and its sessions',
        tags: ['accounts'],
        security: withToken,
        body: Type.Object({ password: PresentedPassword }, { additionalProperties: false }),
        response: {
          204: noContent('The account is deleted'),
          ...problemResponses(400, 401, 403, 413, 415, 429, 503),
        },
      },
    },
    async (request, reply) => {
      await users.remove(request.caller, await self(request), request.body.password)
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/users/me/password',
    {
      schema: {
        operationId: 'changePassword',
        summary: 'Change your password; every other session ends',
        tags: ['accounts'],
        security: withToken,
        body: Type.Object(
          { current_password: PresentedPassword, new_password: Password },
          { additionalProperties: false },
        ),
        response: {
          204: noContent('The password is changed'),
          ...problemResponses(400, 401, 403, 413, 415, 429, 503),
        },
      },
    },
    async (request, reply) => {
      const { current_password: current, new_password: next } = request.body
      const change = omitUndefined({ current, next, keepSessionId: request.token.sid })
      await users.changePassword(request.caller, await self(request), change)
      return reply.code(204).send(null)
    },
  )
}

export default plugin
