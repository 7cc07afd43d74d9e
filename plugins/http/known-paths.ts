import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import FindMyWay from 'find-my-way'
import { checked } from '../../domain/checks.ts'
import { Refusal } from '../../errors.ts'
import { isPreflight } from './cors.ts'
import type { ErrorFamily } from './error-families.ts'
import { sendRefusal } from './errors.ts'
import { hintFor } from './hints.ts'
import { refuseAmbiguous, refuseEncoded } from './strict-http.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** every path that has routes, by its pattern */
    knownPaths: ReadonlyMap<string, KnownPath>
  }
}

export interface KnownPath {
  pattern: string
  methods: Set<string>
  family: ErrorFamily | undefined
}

/**
 * Answers requests that have no route, before their body is read: 404 for an unknown path, 405 with `Allow` for a
 * method that the path does not have, 204 for the preflight of an allowed origin. A request with two readings is 400,
 * whether it has a route or not.
 *
 * Fastify cannot be asked which methods a path has. So the patterns of all routes are also in a router of our own, of
 * the kind that Fastify has, with the same options: both match alike.
 */
export default fp(
  async (app: FastifyInstance, { maxParamLength }: { maxParamLength: number }) => {
    const byPattern = new Map<string, KnownPath>()
    let router: ReturnType<typeof FindMyWay> | undefined
    /** Made for the first request without a route: each pattern costs a start 0.1 ms. */
    function find(url: string): KnownPath | undefined {
      if (!router) {
        router = FindMyWay({ maxParamLength })
        for (const known of byPattern.values()) router.on('GET', known.pattern, () => {}, known)
      }
      return router.find('GET', url)?.store ?? undefined
    }
    app.decorate('knownPaths', byPattern)

    app.addHook('onRoute', ({ url, method, config }) => {
      const known = byPattern.get(url) ?? { pattern: url, methods: new Set<string>(), family: config?.errors }
      byPattern.set(url, known)
      for (const name of [method].flat()) known.methods.add(name)
    })

    // Each request comes by here: a hook that is no promise costs less.
    app.addHook('onRequest', (request, reply, done) => {
      if (refuseAmbiguous(request)) reply.header('connection', 'close')
      // Whatever the path is: otherwise a page could not read the 404 of the request that follows.
      if (isPreflight(request) && reply.hasHeader('access-control-allow-origin')) {
        return void reply.code(204).header('content-length', '0').send()
      }
      if (!request.is404 && request.method !== 'OPTIONS') {
        refuseEncoded(request)
        return done()
      }
      const { url = '' } = request.raw
      // `OPTIONS *` is about the server (RFC 9110 §9.3.7), and not about its first page, as which routers read it.
      const known = url === '*' ? undefined : find(url)
      const refused = isPreflight(request) && originRefused(request)
      if (!known) {
        const hint = hintFor(request.url.split('?', 1)[0] as string, byPattern.keys(), app.publicPath)
        const checks = [checked('path', hint ?? 'no route has it')]
        throw new Refusal('not_found', { checks, ...(hint !== undefined && { detail: hint }), ...refused })
      }
      const methods = [...known.methods]
      const refusal = new Refusal('method_not_allowed', {
        detail: `This route takes ${methods.join(' and ')}`,
        checks: [checked('method', request.method, methods.join(', ')), checked('path', known.pattern)],
        ...refused,
        headers: { allow: methods.join(', ') },
      })
      sendRefusal(reply, refusal, known.family)
    })
  },
  { name: 'known-paths', dependencies: ['errors', 'cors'] },
)

/** A browser does not tell the page why a call failed, so the response and the log name the setting that decides. */
const originRefused = ({ headers: { origin = '' } }: FastifyRequest) => ({
  detail: 'Pages of this origin may not call from a browser: AUTH_CORS_ORIGINS does not list it',
  reason: `a preflight of the origin ${JSON.stringify(origin.slice(0, 200))}, which is not in AUTH_CORS_ORIGINS`,
  checks: [checked('cors_origin', origin.slice(0, 200))],
})
