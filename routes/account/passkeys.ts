import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { freshForSeconds } from '../../domain/authentication.ts'
import { Refusal } from '../../errors.ts'
import { ignoreBodies } from '../../plugins/http/bodies.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { CreationOptions, FactorName, NewPasskey, RegistrationResponse } from '../../schemas/factors.ts'
import { strictObject, toTimestamp } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { withToken } from '../../schemas/security.ts'

const ofFactors = { tags: ['factors'], security: withToken }

/** A user's own passkeys, WebAuthn Level 3. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { passkeys, ownPasskeys, requireFresh } = app
  if (!passkeys.isOn) {
    ignoreBodies(app)
    // Said here, for the path would be that of a factor to remove.
    for (const url of ['/users/me/factors/passkeys/options', '/users/me/factors/passkeys'])
      app.post(url, { schema: { hide: true } }, async () => {
        throw new Refusal('not_found', { detail: 'There are no passkeys here' })
      })
    return
  }

  await app.register(async (scope) => {
    ignoreBodies(scope)
    scope.post(
      '/users/me/factors/passkeys/options',
      {
        schema: {
          operationId: 'askForPasskey',
          ...ofFactors,
          summary: 'Begin to add a passkey',
          description:
            'The answer is for `navigator.credentials.create`, by `PublicKeyCredential.parseCreationOptionsFromJSON`. It ' +
            'is good for ten minutes, once, and for this session.',
          response: { 200: CreationOptions, ...problemResponses(401, 403, 409, 429, 503) },
        },
      },
      async (request) => ownPasskeys.begin(request.caller, () => requireFresh(request)),
    )
  })

  acceptJson(app)
  app.post(
    '/users/me/factors/passkeys',
    {
      schema: {
        operationId: 'addPasskey',
        ...ofFactors,
        summary: 'Add the passkey',
        description:
          'The session has shown a second factor by that. Its name is that of its maker, where none is given.',
        body: strictObject({ name: Type.Optional(FactorName), response: RegistrationResponse }),
        response: { 201: NewPasskey, ...problemResponses(400, 401, 403, 409, 413, 415, 429, 503) },
      },
    },
    async (request, reply) => {
      const { caller, body } = request
      // Fresh when it began: it takes a while to find a security key.
      const fresh = () => requireFresh(request, freshForSeconds + ownPasskeys.registrationTtlSeconds)
      const { id, name, createdAt } = await ownPasskeys.add(caller, fresh, body.response, body.name)
      return reply.code(201).send({ id, name, created_at: toTimestamp(createdAt) })
    },
  )
}

export default plugin
