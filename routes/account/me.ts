import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { User } from '../../domain/user.ts'
import { tokenRefused } from '../../errors.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { Password, PresentedPassword, strictObject } from '../../schemas/parts.ts'
import { Done, problemResponses } from '../../schemas/responses.ts'
import { withToken } from '../../schemas/security.ts'
import { Profile, toUser } from '../../schemas/users.ts'

const userGone = () => tokenRefused('invalid', 'the user of the token is gone')

/** A user's own account. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { users, profiles, revocations } = app
  acceptJson(app)

  async function self({ token }: FastifyRequest): Promise<User> {
    const user = await users.find(token.sub)
    if (user) return user
    // Gone a moment ago, by a request that had no answer, say: its tokens are refused before this one is answered.
    await revocations.pull()
    throw userGone()
  }

  app.get(
    '/users/me',
    {
      schema: {
        operationId: 'getProfile',
        summary: 'Get your profile',
        tags: ['accounts'],
        security: withToken,
        response: { 200: Profile, ...problemResponses(401, 403, 503) },
      },
    },
    async (request) => {
      const profile = await profiles.find(request.token.sub)
      if (!profile) throw userGone()
      return toUser(profile)
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
        body: strictObject({ password: PresentedPassword }),
        response: { 204: Done, ...problemResponses(400, 401, 403, 413, 415, 429, 503) },
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
        body: strictObject({ current_password: PresentedPassword, new_password: Password }),
        response: { 204: Done, ...problemResponses(400, 401, 403, 413, 415, 429, 503) },
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
