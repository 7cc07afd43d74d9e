import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { allowNoBody } from '../../plugins/http/bodies.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { AdminKey, toKey } from '../../schemas/keys.ts'
import { strictObject } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { actions, adminRoute } from './actions.ts'

/** Signing keys, for administrators. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { signingKeys } = app
  acceptJson(app)

  app.get(
    '/admin/keys',
    {
      schema: {
        operationId: 'adminListKeys',
        ...adminRoute,
        summary: 'List signing keys: of access tokens first, the newest of each algorithm first',
        response: { 200: Type.Object({ keys: Type.Array(AdminKey) }), ...problemResponses(401, 403, 503) },
      },
    },
    async () => ({ keys: (await signingKeys.list()).map(toKey) }),
  )

  app.post(
    '/admin/keys/rotate',
    {
      preValidation: allowNoBody,
      schema: {
        operationId: 'adminRotateKeys',
        ...adminRoute,
        summary: 'Create the next signing key of each algorithm now',
        description:
          'It is published at once and signs in ten minutes; one that already is on its way is the next. Returns that of access tokens.',
        body: strictObject({
          leaked: Type.Optional(
            Type.Boolean({
              description: 'After a leak: the new keys sign at once, the others are withdrawn, all tokens are refused',
            }),
          ),
        }),
        response: { 200: AdminKey, ...problemResponses(400, 401, 403, 409, 413, 415, 503) },
      },
    },
    async ({ body, caller }) => toKey(await signingKeys.rotateNow(caller, { isLeaked: body.leaked === true })),
  )

  await app.register(
    actions(Type.Object({ kid: Type.String() }), ({ kid }) => kid, [
      {
        route: 'DELETE /admin/keys/:kid',
        operationId: 'adminRevokeKey',
        summary: 'Revoke a key: its tokens are refused at once, and where it signed, a new one does',
        statuses: [409],
        act: signingKeys.revoke,
      },
    ]),
  )
}

export default plugin
