import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { dirname, join } from 'node:path'
import Fastify, { type FastifyError, type FastifyInstance, type FastifyServerOptions } from 'fastify'
import type { Config } from './config.ts'
import { type ErrorCode, Refusal } from './errors.ts'
import { type LogDestination, loggerOptions, QuietLog } from './log/fields.ts'
import passwordPolicy from './plugins/accounts/password-policy.ts'
import profiles from './plugins/accounts/profiles.ts'
import userAdmin from './plugins/accounts/user-admin.ts'
import users from './plugins/accounts/users.ts'
import clientAuthentication from './plugins/clients/client-authentication.ts'
import clients from './plugins/clients/clients.ts'
import declaredClients from './plugins/clients/declared-clients.ts'
import caller from './plugins/http/caller.ts'
import clientAddress from './plugins/http/client-address.ts'
import cors from './plugins/http/cors.ts'
import { Drain, drainingResponse } from './plugins/http/draining.ts'
import errors, { commonHeaders, rawRefusal, sendRefusal, toRefusal } from './plugins/http/errors.ts'
import jwt from './plugins/http/jwt.ts'
import knownPaths from './plugins/http/known-paths.ts'
import openapi from './plugins/http/openapi.ts'
import secrets from './plugins/keys/secrets.ts'
import signingKeys from './plugins/keys/signing-keys.ts'
import hashing from './plugins/login/hashing.ts'
import signIn from './plugins/login/sign-in.ts'
import throttle from './plugins/login/throttle.ts'
import changes from './plugins/run/changes.ts'
import events from './plugins/run/events.ts'
import jobs from './plugins/run/jobs.ts'
import store from './plugins/run/store.ts'
import sweeper from './plugins/run/sweeper.ts'
import sessions from './plugins/sessions/sessions.ts'
import accessTokens from './plugins/tokens/access-tokens.ts'
import guards from './plugins/tokens/guards.ts'
import refreshTokens from './plugins/tokens/refresh-tokens.ts'
import revocations from './plugins/tokens/revocations.ts'
import userRoutes from './routes/account/me.ts'
import protectedRoute from './routes/account/protected.ts'
import sessionRoutes from './routes/account/sessions.ts'
import signupRoute from './routes/account/signup.ts'
import adminClientRoutes from './routes/admin/clients.ts'
import adminKeyRoutes from './routes/admin/keys.ts'
import adminSessionRoutes from './routes/admin/sessions.ts'
import adminUserRoutes from './routes/admin/users.ts'
import revocationsRoute from './routes/checking/revocations.ts'
import verifyRoute from './routes/checking/verify.ts'
import healthRoutes from './routes/health.ts'
import introspectRoute from './routes/oauth/introspect.ts'
import wellKnownRoutes, { findMetadata } from './routes/oauth/metadata.ts'
import refreshRoute from './routes/oauth/refresh.ts'
import revokeRoute from './routes/oauth/revoke.ts'
import tokenRoute from './routes/oauth/token.ts'

declare module 'fastify' {
  interface FastifyInstance {
    config: Config
    /** the path of the issuer, without a slash at its end: a proxy in front takes it away, so it is written before each path that goes out */
    publicPath: string
    /** milliseconds since the epoch; the one clock of the app, which tests move */
    now: () => number
    /** milliseconds on a clock that nobody sets, for how long something has lasted */
    uptimeMs: () => number
    /** aborted when the process begins to end: it is not ready any more, and every answer ends its connection */
    drain: Drain
    /** of an app that is built for one command and never listens; undefined for the service */
    command: Command | undefined
  }
}

/** A command looks, or does the one thing it was told: only the service makes what is missing, rotates, sweeps and declares. */
export interface Command {
  /** what its requests to `/admin/` carry in the place of a token; known to its process alone */
  key: string
  /** whether it may make the secret of a store that has none yet */
  makesSecret: boolean
}

/** What a caller may put in the place of the usual. */
export interface AppOptions {
  now?: () => number
  uptimeMs?: () => number
  /** where the log goes; stdout when not given */
  logStream?: LogDestination
  /** milliseconds in which a request has to arrive */
  requestTimeoutMs?: number
  /** how schemas are compiled: tests build many apps, and compile each schema once */
  schemaController?: FastifyServerOptions['schemaController']
  command?: Command
}

const maxBodyBytes = 16 * 1024
/** Where very much was revoked, a start reads for a while on a busy machine; a store that does not answer ends it sooner. */
const startTimeoutMs = 5 * 60_000
/** As long as a client_id may be; no id is longer. */
const maxParamLength = 128
/** Longest time for the header of a request to arrive, and for all of it; slower ones hold a socket for nothing. */
const arrivalTimeoutMs = 15_000
/** How often Node looks, of that time. */
const arrivalChecks = 15

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
    requestTimeoutMs = arrivalTimeoutMs,
    schemaController,
    command,
  }: AppOptions = {},
): Promise<FastifyInstance> {
  const drain = new Drain()
  const rewriteUrl = findMetadata(config.AUTH_ISSUER)
  const app = Fastify({
    logger: loggerOptions(config.LOG_LEVEL, logStream),
    logController: new QuietLog(),
    genReqId: () => randomUUID(),
    bodyLimit: maxBodyBytes,
    pluginTimeout: startTimeoutMs,
    requestTimeout: requestTimeoutMs,
    routerOptions: { maxParamLength },
    ...(rewriteUrl && { rewriteUrl }),
    ...(schemaController && { schemaController }),
    // Node would answer a request without Host by itself, with no body and no id; plugins/http/strict-http.ts does it.
    http: {
      requireHostHeader: false,
      ServerResponse: drainingResponse(drain),
      // Not longer than requestTimeout, or Node takes the one for the other.
      headersTimeout: requestTimeoutMs,
      connectionsCheckingInterval: requestTimeoutMs / arrivalChecks,
    },
    keepAliveTimeout: config.AUTH_KEEP_ALIVE.ms,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    // A number stays a number and what is unknown is refused: nothing is guessed.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false, allErrors: true } },
    clientErrorHandler,
    frameworkErrors: (error, request, reply) => {
      reply.headers(commonHeaders(request.id))
      app.letReadAcrossOrigins(request as never, reply as never)
      sendRefusal(reply as never, request.url === '*' ? new Refusal('not_found') : toRefusal(error), undefined)
    },
  })
  // RFC 9110 §10.1.1 lets an expectation that is not understood be ignored; Node would answer 417 with no body and no id.
  app.server.on('checkExpectation', app.routing)
  // Node would drop the fields after the first thousands without a word, and 16 KiB of them are bound enough.
  app.server.maxHeadersCount = 0
  // Nobody is connected to another host through here; Node would close the connection without a word.
  app.server.on('connect', (_request, socket: Socket) =>
    socket.end(rawRefusal('method_not_allowed', randomUUID(), 'allow: GET, HEAD')),
  )
  app.removeAllContentTypeParsers()
  app.decorate('config', config)
  app.decorate('publicPath', new URL(config.AUTH_ISSUER).pathname.replace(/\/$/, ''))
  app.decorate('now', now)
  app.decorate('uptimeMs', uptimeMs)
  app.decorate('drain', drain)
  app.addHook('preClose', async () => drain.begin())
  app.decorate('command', command)

  try {
    await app.register(clientAddress)
    await app.register(caller)
    await app.register(errors)
    await app.register(cors)
    await app.register(knownPaths, { maxParamLength })
    if (!command) await app.register(openapi, { version })

    await app.register(events)
    await app.register(store)
    await app.register(jobs)
    await app.register(secrets)
    await app.register(revocations)
    await app.register(changes)
    await app.register(signingKeys)
    await app.register(jwt)
    await app.register(accessTokens)
    await app.register(refreshTokens)
    await app.register(hashing)
    await app.register(passwordPolicy)
    await app.register(throttle)
    await app.register(signIn)
    await app.register(profiles)
    await app.register(userAdmin)
    await app.register(users)
    await app.register(clients)
    await app.register(clientAuthentication)
    await app.register(declaredClients)
    await app.register(sessions)
    await app.register(guards)
    // A command needs the routes of /admin/ only.
    if (!command) {
      await app.register(sweeper)
      await app.register(import('./plugins/run/metrics.ts'), { droppedLines: logStream?.droppedLines })

      await app.register(healthRoutes)
      await app.register(wellKnownRoutes)
      await app.register(signupRoute)
      await app.register(tokenRoute)
      await app.register(refreshRoute)
      await app.register(revokeRoute)
      await app.register(introspectRoute)
      await app.register(revocationsRoute)
      await app.register(verifyRoute)
      await app.register(async (ofUsers) => {
        ofUsers.addHook('onRequest', ofUsers.requireUser)
        await ofUsers.register(userRoutes)
        await ofUsers.register(protectedRoute)
        await ofUsers.register(sessionRoutes)
      })
    }
    await app.register(async (ofAdmins) => {
      ofAdmins.addHook('onRequest', ofAdmins.requireAdmin)
      await ofAdmins.register(adminUserRoutes)
      await ofAdmins.register(adminSessionRoutes)
      await ofAdmins.register(adminClientRoutes)
      await ofAdmins.register(adminKeyRoutes)
    })
    await app.ready()
  } catch (error) {
    await app.close()
    throw error
  }
  return app
}

export const version: string = readVersion()

/** The package is beside the sources, and above wherever they were built to. */
function readVersion(directory = import.meta.dirname): string {
  const path = join(directory, 'package.json')
  if (existsSync(path)) return JSON.parse(readFileSync(path, 'utf8')).version
  return readVersion(dirname(directory))
}

/** What Node's HTTP parser refuses never becomes a request. */
function clientErrorHandler(this: FastifyInstance, error: FastifyError & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed || !socket.writable) return void socket.destroy()
  const codes: Record<string, ErrorCode> = {
    HPE_HEADER_OVERFLOW: 'header_too_large',
    ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
  }
  const id = randomUUID()
  this.log.info({ reqId: id, reason: error.code }, 'a request could not be read')
  socket.end(rawRefusal(codes[error.code] ?? 'malformed_request', id))
}
