import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { allowNoBody } from '../../plugins/http/bodies.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { localeOf } from '../../plugins/http/locale.ts'
import { Email, RoleNames, strictObject, Timestamp, toTimestamp, Username } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { actions, adminRoute } from './actions.ts'

const Id = Type.String({ description: 'Of the invitation, to withdraw it by; it is no secret' })

const Invitation = Type.Object({
  id: Id,
  link: Type.String({
    description: 'Opens the page on which the account is made',
    examples: ['https://auth.example.com/sign-up?invitation=lki_…'],
  }),
  token: Type.String({ description: '`invitation` of `POST /signup`. It is in no other answer' }),
  expires_at: Timestamp,
  mailed: Type.Boolean({
    description:
      'Whether it goes to the address; if not, hand it over. Without a transport, and over the limits, it does not',
  }),
})

/** Invitations, for administrators. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { invitations } = app
  acceptJson(app)

  app.post(
    '/admin/invitations',
    {
      preValidation: allowNoBody,
      schema: {
        operationId: 'adminInvite',
        ...adminRoute,
        summary: 'Invite somebody to make an account, also while signup is closed',
        description:
          'For 7 days, and once. What is said here the account will have; an address counts as verified, and is the ' +
          'name where no other is chosen. A new invitation ends the one before for the same address, or the same ' +
          'name where there is no address.',
        body: strictObject({
          email: Type.Optional(Email),
          username: Type.Optional(Username),
          roles: Type.Optional(RoleNames),
        }),
        response: { 201: Invitation, ...problemResponses(400, 401, 403, 409, 413, 415, 503) },
      },
    },
    async (request, reply) => {
      const { expiresAt, isMailed, ...issued } = await invitations.invite(
        request.caller,
        request.body,
        localeOf(request),
      )
      reply.code(201)
      return { ...issued, expires_at: toTimestamp(expiresAt), mailed: isMailed }
    },
  )

  await app.register(
    actions(Type.Object({ id: Id }), ({ id }) => id, [
      {
        route: 'DELETE /admin/invitations/:id',
        operationId: 'adminWithdrawInvitation',
        summary: 'Withdraw an invitation',
        act: invitations.withdraw,
      },
    ]),
  )
}

export default plugin
