import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { deviceGrant } from '../../domain/grant.ts'
import { acceptForms } from '../../plugins/http/form.ts'
import { clientCredentials } from '../../schemas/oauth.ts'
import { oauthResponses } from '../../schemas/responses.ts'
import { maybeWithClient } from '../../schemas/security.ts'
import { grantAudience, grantScope, narrowing } from './grants/grant.ts'
import { checkGrant } from './grants/index.ts'

const DeviceAuthorization = Type.Object(
  {
    device_code: Type.String({ description: 'For `POST /token`, and for nobody to see', examples: ['lkd_…'] }),
    user_code: Type.String({ description: 'For the user to type', examples: ['WDJB-MJHT'] }),
    verification_uri: Type.String({ description: 'Where', examples: ['https://auth.example.com/device'] }),
    verification_uri_complete: Type.String({
      description: 'The same with the code in it, for a link or a QR code',
      examples: ['https://auth.example.com/device?user_code=WDJB-MJHT'],
    }),
    expires_in: Type.Integer({ description: 'Seconds', examples: [600] }),
    interval: Type.Integer({ description: 'Seconds between two requests to `POST /token`', examples: [5] }),
  },
  { description: 'RFC 8628 §3.2' },
)

/** Begins the sign-in of a device without a browser, RFC 8628 §3.1. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, clientAuthentication, deviceCodes } = app
  await acceptForms(app)
  const verificationUri = `${config.AUTH_ISSUER.replace(/\/$/, '')}/device`

  app.post(
    '/device_authorization',
    {
      config: { errors: 'oauth' },
      schema: {
        operationId: 'authorizeDevice',
        summary: 'Sign in on a device without a browser: the codes to begin with',
        description:
          'Show `user_code` and `verification_uri`, and ask `POST /token` with `device_code` each `interval` seconds, until ' +
          'the user has decided.',
        tags: ['tokens'],
        security: maybeWithClient,
        consumes: ['application/x-www-form-urlencoded'],
        body: Type.Object({ ...narrowing, ...clientCredentials }),
        response: { 200: DeviceAuthorization, ...oauthResponses(400, 401, 413, 415, 429, 503) },
      },
    },
    async ({ caller, headers, body: form }) => {
      const client = await clientAuthentication.identify(caller, headers.authorization, form)
      checkGrant(client, deviceGrant)
      const scope = grantScope(client, form.scope, { ofUser: true, config })
      const aud = grantAudience(client, form.resource, config)
      const { deviceCode, userCode, ttlSeconds, intervalSeconds } = await deviceCodes.issue(caller, client, {
        scope,
        aud,
      })
      return {
        device_code: deviceCode,
        user_code: userCode,
        verification_uri: verificationUri,
        verification_uri_complete: `${verificationUri}?user_code=${userCode}`,
        expires_in: ttlSeconds,
        interval: intervalSeconds,
      }
    },
  )
}

export default plugin
