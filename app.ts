import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { version } from './config/version.ts'
import type { Config } from './config.ts'
import { createLeapWatch } from './domain/clock-leaps.ts'
import { revocationExpiry } from './domain/lifetimes.ts'
import { type LogDestination, loggerOptions, QuietLog } from './log/fields.ts'
import { type Traced, type Tracing, untraced } from './log/traced.ts'
import emails from './plugins/accounts/emails.ts'
import invitations from './plugins/accounts/invitations.ts'
import newAccounts from './plugins/accounts/new-accounts.ts'
import passwordPolicy from './plugins/accounts/password-policy.ts'
import passwordReset from './plugins/accounts/password-reset.ts'
import profiles from './plugins/accounts/profiles.ts'
import userAdmin from './plugins/accounts/user-admin.ts'
import users from './plugins/accounts/users.ts'
import clientAuthentication from './plugins/clients/client-authentication.ts'
import clients from './plugins/clients/clients.ts'
import declaredClients from './plugins/clients/declared-clients.ts'
import challenges from './plugins/factors/challenges.ts'
import codes from './plugins/factors/codes.ts'
import factors from './plugins/factors/factors.ts'
import fresh from './plugins/factors/fresh.ts'
import ownFactors from './plugins/factors/own-factors.ts'
import ownPasskeys from './plugins/factors/own-passkeys.ts'
import passkeys from './plugins/factors/passkeys.ts'
import caller from './plugins/http/caller.ts'
import clientAddress from './plugins/http/client-address.ts'
import { sharedCompilers } from './plugins/http/compilers.ts'
import cors from './plugins/http/cors.ts'
import draining, { Drain } from './plugins/http/draining.ts'
import errors from './plugins/http/errors.ts'
import jwt from './plugins/http/jwt.ts'
import knownPaths from './plugins/http/known-paths.ts'
import openapi from './plugins/http/openapi.ts'
import { maxParamLength, prepareServer, serverOptions } from './plugins/http/server-options.ts'
import secrets from './plugins/keys/secrets.ts'
import signingKeys, { type SigningKeyOptions } from './plugins/keys/signing-keys.ts'
import hashing from './plugins/login/hashing.ts'
import signIn from './plugins/login/sign-in.ts'
import throttle from './plugins/login/throttle.ts'
import mailLimits from './plugins/mail/limits.ts'
import mail from './plugins/mail/mail.ts'
import mailNotices from './plugins/mail/notices.ts'
import outbox from './plugins/mail/outbox.ts'
import metrics from './plugins/metrics/metrics.ts'
import audit from './plugins/run/audit.ts'
import changes from './plugins/run/changes.ts'
import events from './plugins/run/events.ts'
import explanations from './plugins/run/explanations.ts'
import guardedFetch from './plugins/run/guarded-fetch.ts'
import jobs from './plugins/run/jobs.ts'
import store from './plugins/run/store.ts'
import sweeper from './plugins/run/sweeper.ts'
import sessions from './plugins/sessions/sessions.ts'
import accessTokens from './plugins/tokens/access-tokens.ts'
import guards from './plugins/tokens/guards.ts'
import idTokens from './plugins/tokens/id-tokens.ts'
import impersonation from './plugins/tokens/impersonation.ts'
import refreshTokens from './plugins/tokens/refresh-tokens.ts'
import revocations from './plugins/tokens/revocations.ts'
import webhooks from './plugins/webhooks/webhooks.ts'
import ownAuditRoute from './routes/account/audit.ts'
import emailRoute from './routes/account/email.ts'
import factorRoutes from './routes/account/factors.ts'
import mailLinkRoutes from './routes/account/mail-links.ts'
import userRoutes from './routes/account/me.ts'
import passkeyRoutes from './routes/account/passkeys.ts'
import protectedRoute from './routes/account/protected.ts'
import sessionRoutes from './routes/account/sessions.ts'
import signupRoute from './routes/account/signup.ts'
import adminAuditRoute from './routes/admin/audit.ts'
import adminBatchRoutes from './routes/admin/batches.ts'
import adminClientRoutes from './routes/admin/clients.ts'
import adminExplainRoute from './routes/admin/explain.ts'
import adminFactorRoutes from './routes/admin/factors.ts'
import adminInvitationRoutes from './routes/admin/invitations.ts'
import adminKeyRoutes from './routes/admin/keys.ts'
import adminSessionRoutes from './routes/admin/sessions.ts'
import adminTokenRoute from './routes/admin/tokens.ts'
import adminUserRoutes from './routes/admin/users.ts'
import adminWebhookRoutes from './routes/admin/webhooks.ts'
import revocationsRoute from './routes/checking/revocations.ts'
import verifyRoute from './routes/checking/verify.ts'
import healthRoutes from './routes/health.ts'
import challengeRoute from './routes/oauth/challenge.ts'
import introspectRoute from './routes/oauth/introspect.ts'
import wellKnownRoutes, { findMetadata } from './routes/oauth/metadata.ts'
import refreshRoute from './routes/oauth/refresh.ts'
import revokeRoute from './routes/oauth/revoke.ts'
import tokenRoute from './routes/oauth/token.ts'

declare module 'fastify' {
  interface FastifyInstance {
    config: Config
    /**
     * the path of the issuer, without a slash at its end: a proxy in front removes it, so each path that goes out
     * begins with it
     */
    publicPath: string
    /** milliseconds since the epoch; the one clock of the app, which tests move */
    now: () => number
    /** of that clock, which may be set */
    leaps: ReturnType<typeof createLeapWatch>
    /** milliseconds on a monotonic clock, for durations */
    uptimeMs: () => number
    /** spans for what a request has done for it; without traces it costs nothing */
    traced: Traced
    /** set in an app that is built for one command and never listens; undefined in the service */
    command: Command | undefined
  }
}

/**
 * A command reads, or does one thing. Only the service makes what is missing, rotates keys, sweeps and declares
 * clients.
 */
export interface Command {
  /** what its requests to `/admin/` carry in the place of a token; known to its process alone */
  key: string
  /** whether it may make the secret of a store that has none yet */
  makesSecret: boolean
}

/** In the place of the defaults; most are for tests. */
export interface AppOptions {
  now?: () => number
  uptimeMs?: () => number
  /** where the log goes; stdout when not given */
  logStream?: LogDestination
  /** milliseconds in which a request has to arrive */
  requestTimeoutMs?: number
  /** how schemas are compiled; each once when not given */
  schemaController?: FastifyServerOptions['schemaController']
  generatePair?: SigningKeyOptions['generatePair']
  command?: Command
  tracing?: Tracing | undefined
}

/** A start reads all revocations, which takes long on a busy machine. A store that does not answer ends it sooner. */
const startTimeoutMs = 5 * 60_000

/**
 * Builds the service: the one app that the server runs and the tests call.
 *
 * @param config as read by `readConfig`
 * @returns the app with its store open, ready to `listen` or `inject`
 * @throws {ConfigError} for a setting that turns out wrong only now, such as a key file
 */
export async function buildApp(
  config: Config,
  {
    now = Date.now,
    uptimeMs = () => performance.now(),
    logStream,
    requestTimeoutMs,
    schemaController = sharedCompilers,
    generatePair,
    command,
    tracing,
  }: AppOptions = {},
): Promise<FastifyInstance> {
  const drain = new Drain()
  const rewriteUrl = findMetadata(config.AUTH_ISSUER)
  const app = Fastify({
    ...serverOptions(config, drain, requestTimeoutMs),
    ...(rewriteUrl && { rewriteUrl }),
    logger: loggerOptions(config.LOG_LEVEL, logStream),
    logController: new QuietLog(),
    pluginTimeout: startTimeoutMs,
    schemaController,
  })
  prepareServer(app)
  app.removeAllContentTypeParsers()
  app.decorate('config', config)
  app.decorate('publicPath', new URL(config.AUTH_ISSUER).pathname.replace(/\/$/, ''))
  const leaps = createLeapWatch(now, uptimeMs, revocationExpiry(0, config.AUTH_ACCESS_TTL.seconds))
  app.decorate('now', leaps.now)
  app.decorate('leaps', leaps)
  app.decorate('uptimeMs', uptimeMs)
  app.decorate('command', command)
  app.decorate('traced', tracing?.traced ?? untraced)

  try {
    if (tracing) await app.register(import('./plugins/run/tracing.ts'))
    await app.register(metrics)
    await app.register(draining, { drain })
    await app.register(clientAddress)
    await app.register(caller)
    await app.register(errors)
    await app.register(cors)
    await app.register(knownPaths, { maxParamLength })
    if (!command) await app.register(openapi, { version })

    await app.register(events)
    await app.register(guardedFetch)
    await app.register(store)
    await app.register(explanations)
    await app.register(jobs)
    await app.register(audit)
    await app.register(secrets)
    await app.register(mail)
    await app.register(mailLimits)
    await app.register(mailNotices)
    await app.register(revocations)
    await app.register(changes)
    await app.register(signingKeys, { generatePair })
    await app.register(jwt)
    await app.register(accessTokens)
    await app.register(refreshTokens)
    await app.register(idTokens)
    await app.register(hashing)
    await app.register(passwordPolicy)
    await app.register(throttle)
    await app.register(passkeys)
    await app.register(signIn)
    await app.register(profiles)
    await app.register(userAdmin)
    await app.register(users)
    await app.register(emails)
    await app.register(passwordReset)
    await app.register(invitations)
    await app.register(newAccounts)
    await app.register(clients)
    await app.register(clientAuthentication)
    await app.register(declaredClients)
    await app.register(factors)
    await app.register(codes)
    await app.register(challenges)
    await app.register(sessions)
    await app.register(impersonation)
    await app.register(guards)
    await app.register(fresh)
    await app.register(webhooks)
    // A command needs the routes of /admin/ only.
    if (!command) {
      if (app.config.AUTH_PAGES === 'on') await app.register(import('./plugins/authorization/index.ts'))
      await app.register(ownFactors)
      await app.register(ownPasskeys)
      await app.register(outbox)
      await app.register(sweeper)
      if (app.metrics)
        await app.register(import('./plugins/metrics/readings.ts'), { droppedLines: logStream?.droppedLines })

      await app.register(healthRoutes)
      await app.register(wellKnownRoutes)
      await app.register(signupRoute)
      await app.register(mailLinkRoutes)
      await app.register(tokenRoute)
      await app.register(challengeRoute)
      await app.register(refreshRoute)
      await app.register(revokeRoute)
      await app.register(introspectRoute)
      await app.register(revocationsRoute)
      await app.register(verifyRoute)
      if (app.config.AUTH_PAGES === 'on') {
        await app.register(import('./routes/openid/userinfo.ts'))
        await app.register(import('./routes/pages/theme.ts'))
        await app.register(import('./routes/oauth/device-authorization.ts'))
        await app.register(import('./routes/oauth/par.ts'))
        await app.register(import('./routes/pages/index.ts'))
      }
      await app.register(async (ofUsers) => {
        ofUsers.addHook('onRequest', ofUsers.requireUser)
        await ofUsers.register(userRoutes)
        await ofUsers.register(emailRoute)
        await ofUsers.register(protectedRoute)
        await ofUsers.register(sessionRoutes)
        await ofUsers.register(factorRoutes)
        await ofUsers.register(passkeyRoutes)
        await ofUsers.register(ownAuditRoute)
      })
    }
    await app.register(async (ofAdmins) => {
      ofAdmins.addHook('onRequest', ofAdmins.requireAdmin)
      await ofAdmins.register(adminUserRoutes)
      await ofAdmins.register(adminFactorRoutes)
      await ofAdmins.register(adminInvitationRoutes)
      await ofAdmins.register(adminBatchRoutes)
      await ofAdmins.register(adminTokenRoute)
      await ofAdmins.register(adminSessionRoutes)
      await ofAdmins.register(adminClientRoutes)
      await ofAdmins.register(adminKeyRoutes)
      await ofAdmins.register(adminExplainRoute)
      await ofAdmins.register(adminWebhookRoutes)
      await ofAdmins.register(adminAuditRoute)
    })
    await app.ready()
  } catch (error) {
    await app.close()
    throw error
  }
  return app
}
