import { Type } from '@fastify/type-provider-typebox'
import { grant, required } from './grant.ts'
import { tradeOnce } from './once.ts'

/** A device whose user has let it sign in gets a session, RFC 8628 §3.4. Until then it comes again and again. */
export const deviceCode = grant({
  parameters: {
    device_code: Type.Optional(Type.String({ description: 'Of `POST /device_authorization`', examples: [''] })),
  },
  served: { check: 'pages', when: ({ AUTH_PAGES }) => AUTH_PAGES === 'on' },

  async handle(app, { caller, client, form }) {
    const code = required(form, 'device_code')
    return tradeOnce(app, { caller, client }, () => app.deviceCodes.present(client, code))
  },
})
