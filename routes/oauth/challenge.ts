import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { hasAudience } from '../../domain/access-token.ts'
import { type Acr, acrValues, firstKnownAcr } from '../../domain/authentication.ts'
import { isBearer } from '../../domain/bearer.ts'
import { checked } from '../../domain/checks.ts'
import { isFirstParty } from '../../domain/client.ts'
import { audienceOf } from '../../domain/grant.ts'
import { missingParameter, Refusal } from '../../errors.ts'
import type { Shown } from '../../plugins/factors/judging.ts'
import { acceptForms } from '../../plugins/http/form.ts'
import { clientCredentials } from '../../schemas/oauth.ts'
import { PresentedPassword, Username } from '../../schemas/parts.ts'
import { ChallengeError, oauthResponses } from '../../schemas/responses.ts'
import { maybeWithClient, maybeWithToken } from '../../schemas/security.ts'
import { grantAudience, grantScope, narrowing } from './grants/grant.ts'
import { checkGrant } from './grants/index.ts'

const optional = (description: string) => Type.Optional(Type.String({ description, examples: [''] }))

const ChallengeForm = Type.Object({
  username: Type.Optional(Type.String({ description: 'A name or a verified address', examples: Username.examples })),
  password: Type.Optional(PresentedPassword),
  auth_session: optional('Of the answer before; good for one step'),
  otp: optional('The six digits of an authenticator app'),
  recovery_code: optional('One of the ten'),
  webauthn: optional('What `navigator.credentials` has returned, as JSON'),
  method: optional('`webauthn` begins a sign-in by passkey'),
  enroll: optional('`totp` or `webauthn`, where a factor is demanded and there is none'),
  acr_values: optional(`RFC 9470: of ${acrValues.join(', ')}, the best first`),
  max_age: optional('RFC 9470: seconds since the sign-in, at most'),
  code_challenge: optional('RFC 7636; with any step, and then needed at `/token`'),
  code_challenge_method: optional('`S256`'),
  ...narrowing,
  ...clientCredentials,
})
type ChallengeForm = Static<typeof ChallengeForm>

const invalid = (detail: string) => new Refusal('invalid_request', { detail })

/** @throws {Refusal} `invalid_request`: S256 alone, RFC 9700 §2.1.1 */
function readCodeChallenge({ code_challenge: challenge, code_challenge_method: method = 'S256' }: ChallengeForm) {
  if (!challenge) return undefined
  if (method !== 'S256') throw invalid('The code_challenge_method must be S256')
  if (!/^[A-Za-z0-9_-]{43}$/.test(challenge)) throw invalid('The code_challenge must be 43 characters of base64url')
  return challenge
}

/** The first that is known, RFC 9470 §4. */
function readAcr({ acr_values: values }: ChallengeForm): Acr | undefined {
  if (!values) return undefined
  const acr = firstKnownAcr(values.split(' '))
  if (acr) return acr
  throw new Refusal('unmet_authentication_requirements')
}

function readMaxAge({ max_age: age }: ChallengeForm): number | undefined {
  if (!age) return undefined
  if (!/^\d{1,9}$/.test(age)) throw invalid('The max_age must be a number of seconds')
  return Number(age)
}

/** The one thing that a step shows. */
function readShown(form: ChallengeForm): Shown {
  const { otp, recovery_code: recoveryCode, webauthn, password, enroll } = form
  const all: Shown[] = [
    ...(otp ? [{ otp }] : []),
    ...(recoveryCode ? [{ recoveryCode }] : []),
    ...(webauthn ? [{ webauthn }] : []),
    ...(password ? [{ password }] : []),
    ...(enroll === 'totp' || enroll === 'webauthn' ? [{ enroll } as const] : []),
  ]
  const [shown, another] = all
  if (shown && !another) return shown
  throw invalid('With an auth_session, one of otp, recovery_code, webauthn, password and enroll is needed')
}

/** Signs a user of a first-party app in, step by step, by draft-ietf-oauth-first-party-apps. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, challenges, clientAuthentication } = app
  await acceptForms(app)

  app.post(
    '/challenge',
    {
      config: { errors: 'oauth' },
      schema: {
        operationId: 'signIn',
        summary: 'Sign in step by step, with a second factor or a passkey, to an authorization code',
        description:
          'For clients with `first_party`. Begins with a username and password, with `method=webauthn`, or with an ' +
          'access token whose session is to be raised (RFC 9470). While more is needed, the answer is 400 ' +
          '`insufficient_authorization` with an `auth_session` for the next step. The code is for ' +
          '`grant_type=authorization_code` at `/token`, within a minute, without a `redirect_uri`.',
        tags: ['tokens'],
        security: [...maybeWithClient, ...maybeWithToken],
        consumes: ['application/x-www-form-urlencoded'],
        body: ChallengeForm,
        response: {
          200: Type.Object({ authorization_code: Type.String({ examples: ['lkc_…'] }) }),
          400: ChallengeError,
          ...oauthResponses(401, 413, 415, 429, 503),
        },
      },
    },
    async (request, reply) => {
      reply.header('pragma', 'no-cache')
      return { authorization_code: await step(request, request.body) }
    },
  )

  async function step(request: FastifyRequest, form: ChallengeForm): Promise<string> {
    const { caller, headers } = request
    const isStepUp = isBearer(headers.authorization)
    const client = await clientAuthentication.identify(caller, isStepUp ? undefined : headers.authorization, form)
    if (!isFirstParty(client)) {
      throw new Refusal('unauthorized_client', {
        detail: 'The client is not marked first_party',
        checks: [checked('client', client.id, 'first_party')],
      })
    }
    checkGrant(client, 'authorization_code')
    const codeChallenge = readCodeChallenge(form)
    const withCodeChallenge = codeChallenge !== undefined && { codeChallenge }
    if (form.auth_session) return challenges.goOn(caller, client, form.auth_session, readShown(form), codeChallenge)

    const acr = readAcr(form)
    const withAcr = acr && { acr }
    const maxAgeSeconds = readMaxAge(form)
    const withMaxAge = maxAgeSeconds !== undefined && { maxAgeSeconds }
    if (isStepUp) {
      if (form.username) throw invalid('Either an access token or a username is needed')
      await app.requireAnyToken(request)
      // What the step-up gives may be for fewer APIs than the token that came, and for no other.
      const audience = audienceOf(client, config.AUTH_AUDIENCE).filter((name) => hasAudience(request.token, name))
      if (audience.length === 0) throw new Refusal('invalid_target')
      const aud = grantAudience({ ...client, audience }, form.resource, config)
      return challenges.stepUp(caller, client, request.token, { aud, ...withAcr, ...withMaxAge, ...withCodeChallenge })
    }
    // Before the password is checked: what is refused anyway costs no hash.
    const aud = grantAudience(client, form.resource, config)
    const granted = { scope: grantScope(client, form.scope, { ofUser: true, config }), aud }
    if (form.method === 'webauthn') throw await challenges.byPasskey(caller, client, granted, codeChallenge)
    if (form.method) throw invalid('The method must be webauthn')
    const { username, password } = form
    if (!username) throw missingParameter('username')
    if (!password) throw missingParameter('password')
    return challenges.byPassword(caller, client, { username, password }, { granted, ...withAcr, ...withCodeChallenge })
  }
}

export default plugin
