import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import browserSessions from '../browser/browser-sessions.ts'
import forms from '../browser/forms.ts'
import clientMetadata from '../clients/client-metadata.ts'
import logouts from '../logout/logouts.ts'
import signOuts from '../logout/sign-outs.ts'
import authorization from './authorization.ts'
import consents from './consents.ts'
import deviceCodes from './device-codes.ts'
import pushedRequests from './pushed-requests.ts'

/** All that sign-in in the browser has, and is not there without AUTH_PAGES. */
export default fp(
  async (app: FastifyInstance) => {
    await app.register(forms)
    await app.register(browserSessions)
    await app.register(consents)
    await app.register(clientMetadata)
    await app.register(authorization)
    await app.register(pushedRequests)
    await app.register(deviceCodes)
    await app.register(logouts)
    await app.register(signOuts)
  },
  { name: 'sign-in-in-the-browser' },
)
