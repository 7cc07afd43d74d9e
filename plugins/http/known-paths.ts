import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import FindMyWay from 'find-my-way'
import { Refusal } from '../../errors.ts'
import { isPreflight } from './cors.ts'
import { sendRefusal } from './errors.ts'
import { hintFor } from './hints.ts'
import { refuseAmbiguous, refuseEncoded } from './strict-http.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** every path that has routes, by its pattern */
    knownPaths: ReadonlyMap<string, KnownPath>
  }
}

/** A path that has routes, for telling 405 from 404. */
export interface KnownPath {
  methods: Set<string>
  family: 'oauth' | undefined
}

/**
 * Decides before anything is read of the body: what has two readings is 400, a path without routes 404, a method that a path
 * does not have 405 with `Allow`, and the preflight of a browser that may call is answered.
 *
 * The paths are asked of a router of the kind that Fastify has, with the same patterns, so that both always agree on what matches.
 */
export default fp(
  async (app: FastifyInstance, { maxParamLength }: { maxParamLength: number }) => {
    const router = FindMyWay({ maxParamLength })
    const byPattern = new Map<string, KnownPath>()
    app.decorate('knownPaths', byPattern)

    app.addHook('onRoute', ({ url, method, config }) => {
      let known = byPattern.get(url)
      if (!known) {
        known = { methods: new Set(), family: config?.errors }
        byPattern.set(url, known)
        router.on('GET', url, () => {}, known)
      }
      for (const name of [method].flat()) known.methods.add(name)
    })

    app.addHook('onRequest', async (request, reply) => {
      if (refuseAmbiguous(request)) reply.header('connection', 'close')
      // A preflight is answered whatever the path is, or a page could not read the 404 that its request is answered with.
      if (isPreflight(request) && reply.hasHeader('access-control-allow-origin')) {
        return reply.code(204).header('content-length', '0').send()
      }
      if (!request.is404 && request.method !== 'OPTIONS') return refuseEncoded(request)
      const known = router.find('GET', request.raw.url as string)?.store as KnownPath | null | undefined
      const cause = isPreflight(request) && originRefused(request)
      if (!known) {
        const hint = hintFor(request.url.split('?', 1)[0] as string, byPattern.keys(), app.publicPath)
        throw new Refusal('not_found', { ...(hint !== undefined && { detail: hint }), ...cause })
      }
      const allow = [...known.methods].join(', ')
      const detail = `This route takes ${[...known.methods].join(' and ')}`
      return sendRefusal(
        reply,
        new Refusal('method_not_allowed', { detail, ...cause, headers: { allow } }),
        known.family,
      )
    })
  },
  { name: 'known-paths', dependencies: ['errors', 'cors'] },
)

/** Browsers tell a page nothing of why a call failed, so the answer and the log say which setting decides. */
const originRefused = ({ headers: { origin = '' } }: FastifyRequest) => ({
  detail: 'Pages of this origin may not call from a browser: AUTH_CORS_ORIGINS does not list it',
  reason: `a preflight of the origin ${JSON.stringify(origin.slice(0, 200))}, which is not in AUTH_CORS_ORIGINS`,
})
