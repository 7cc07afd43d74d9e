import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { freshForSeconds } from '../../domain/authentication.ts'
import { allowNoBody } from '../../plugins/http/bodies.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { FactorList, FactorName, RecoveryCodeList, TotpSecret, toFactorList } from '../../schemas/factors.ts'
import { Id, strictObject } from '../../schemas/parts.ts'
import { Done, problemResponses } from '../../schemas/responses.ts'
import { withToken } from '../../schemas/security.ts'

const ofFactors = { tags: ['factors'], security: withToken }
const params = Type.Object({ id: Id })

/** A user's own second factors. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { factors, ownFactors, requireFresh } = app
  acceptJson(app)

  app.get(
    '/users/me/factors',
    {
      schema: {
        operationId: 'listFactors',
        ...ofFactors,
        summary: 'List your second factors, in the order in which you added them',
        response: { 200: FactorList, ...problemResponses(401, 403, 503) },
      },
    },
    async ({ token }) => toFactorList((await factors.of(token.sub)).factors),
  )

  app.delete(
    '/users/me/factors/:id',
    {
      schema: {
        operationId: 'removeFactor',
        ...ofFactors,
        summary: 'Remove a second factor, or your recovery codes',
        params,
        response: { 204: Done, ...problemResponses(400, 401, 403, 404, 409, 413, 415, 429, 503) },
      },
    },
    async (request, reply) => {
      await ownFactors.remove(request.caller, () => requireFresh(request), request.params.id)
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/users/me/factors/totp',
    {
      preValidation: allowNoBody,
      schema: {
        operationId: 'addTotp',
        ...ofFactors,
        summary: 'Begin to add an authenticator app',
        description: 'It counts once one of its codes has come, within ten minutes.',
        body: strictObject({ name: Type.Optional(FactorName) }),
        response: { 201: TotpSecret, ...problemResponses(400, 401, 403, 409, 413, 415, 429, 503) },
      },
    },
    async (request, reply) => {
      const { caller, body } = request
      return reply.code(201).send(await ownFactors.beginTotp(caller, () => requireFresh(request), body.name))
    },
  )

  // Where it began, and at the address that the factor has from then on.
  for (const [url, operationId] of [
    ['/users/me/factors/totp/:id/confirm', 'confirmTotp'],
    ['/users/me/factors/:id/confirm', 'confirmFactor'],
  ] as const) {
    app.post(
      url,
      {
        schema: {
          operationId,
          ...ofFactors,
          summary: 'Add the authenticator app, by one of its codes',
          description:
            'The code is spent by that. The fifth wrong one is the last; the session has shown a second factor.',
          params,
          body: strictObject({ code: Type.String({ maxLength: 32, examples: ['123456'] }) }),
          response: { 204: Done, ...problemResponses(400, 401, 403, 404, 409, 413, 415, 429, 503) },
        },
      },
      async (request, reply) => {
        const { params, body, caller } = request
        // Fresh when it began: it takes a while to get out a phone.
        const fresh = () => requireFresh(request, freshForSeconds + ownFactors.enrolmentTtlSeconds)
        await ownFactors.confirmTotp(caller, fresh, params.id, body.code)
        return reply.code(204).send(null)
      },
    )
  }

  app.post(
    '/users/me/factors/recovery-codes',
    {
      preValidation: allowNoBody,
      schema: {
        operationId: 'makeRecoveryCodes',
        ...ofFactors,
        summary: 'Make recovery codes; the old ones die',
        description: 'Each is good once, in the place of a second factor. They are shown now and never again.',
        body: strictObject({}),
        response: { 201: RecoveryCodeList, ...problemResponses(400, 401, 403, 413, 415, 429, 503) },
      },
    },
    async (request, reply) => {
      const codes = await ownFactors.makeRecoveryCodes(request.caller, () => requireFresh(request))
      return reply.code(201).send({ codes })
    },
  )
}

export default plugin
