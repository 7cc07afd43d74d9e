import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { ignoreBodies } from '../../plugins/http/bodies.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import type { SigningKeyStatus } from '../../plugins/keys/signing-keys.ts'
import { AdminKey } from '../../schemas/admin.ts'
import { problemResponses } from '../../schemas/errors.ts'
import { toTimestamp } from '../../schemas/parts.ts'
import { allowNoBody, common } from './shared.ts'

/** The keys that access tokens are signed with. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { signingKeys } = app
  acceptJson(app)

  app.get(
    '/admin/keys',
    {
      schema: {
        operationId: 'adminListKeys',
        ...common,
        summary: 'The signing keys, newest first',
        response: { 200: Type.Object({ keys: Type.Array(AdminKey) }), ...problemResponses(401, 403, 503) },
      },
    },
    async () => ({ keys: (await signingKeys.list()).map(shown) }),
  )

  app.post(
    '/admin/keys/rotate',
    {
      preValidation: allowNoBody,
      schema: {
        operationId: 'adminRotateKeys',
        ...common,
        summary: 'Make the next signing key now',
        description:
          'It is published at once and signs in ten minutes. Where one is on its way already, that is the answer.',
        body: Type.Object(
          {
            leaked: Type.Optional(
              Type.Boolean({
                description:
                  'a key has leaked: the new one signs at once and all others are withdrawn, so that every access token is refused',
              }),
            ),
          },
          { additionalProperties: false },
        ),
        response: { 200: AdminKey, ...problemResponses(400, 401, 403, 409, 413, 415, 503) },
      },
    },
    async ({ body, log }) => shown(await signingKeys.rotateNow(log, { isLeaked: body.leaked === true })),
  )

  await app.register(withoutBodies)
}

const withoutBodies: FastifyPluginAsyncTypebox = async (app) => {
  const { signingKeys } = app
  app.removeAllContentTypeParsers()
  ignoreBodies(app)

  app.delete(
    '/admin/keys/:kid',
    {
      schema: {
        operationId: 'adminWithdrawKey',
        ...common,
        summary: 'Withdraw a key that does not sign any more; what it signed is refused',
        params: Type.Object({ kid: Type.String() }),
        response: {
          204: Type.Null({ description: 'The key is withdrawn' }),
          ...problemResponses(401, 403, 404, 409, 503),
        },
      },
    },
    async (request, reply) => {
      await signingKeys.withdraw(request.log, request.params.kid)
      return reply.code(204).send(null)
    },
  )
}

const shown = ({ kid, alg, state, createdAt, signsFrom, retiresAt }: SigningKeyStatus): Static<typeof AdminKey> => ({
  ...{ kid, alg, state, created_at: toTimestamp(createdAt), signs_from: toTimestamp(signsFrom) },
  ...(retiresAt !== undefined && { retires_at: toTimestamp(retiresAt) }),
})

export default plugin
