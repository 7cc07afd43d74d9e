import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Histogram } from 'prom-client'
import { grantTypes } from '../../domain/grant.ts'
import type { Meters } from './meters.ts'

const eventStream = 'text/event-stream'

/** What a token request asked for; `other` for what is no grant of ours. */
function grantOf(route: string, body: unknown): string {
  if (route === '/refresh') return 'refresh_token'
  const { grant_type: asked = 'password' } = (body ?? {}) as { grant_type?: unknown }
  return grantTypes.find((type) => type === asked) ?? 'other'
}

/**
 * Counts the responses of all routes that are registered from now on.
 *
 * In a hook of each route, which knows its labels: to ask a request for its route would cost more than all the rest.
 */
export function countRequests(app: Pick<FastifyInstance, 'addHook'>, { counter, histogram }: Meters): void {
  const durations = histogram(
    'latchkey_http_request_duration_seconds',
    'Time to answer, by route and status',
    ['method', 'route', 'status'],
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
  )
  const refusals = counter('latchkey_refusals_total', 'Requests refused, by route and code of docs/errors.md', [
    'route',
    'code',
  ])
  const grants = counter(
    'latchkey_grants_total',
    'Token requests, by grant and outcome: issued, or the code refused by',
    ['grant', 'outcome'],
  )

  for (const grant of grantTypes) grants.inc({ grant, outcome: 'issued' }, 0)

  function counterOf(route: string, canStream = false) {
    const ofRoute = new Map<string, Histogram.Internal<string>>()
    const isTokenRoute = route === '/token' || route === '/refresh'
    return (request: FastifyRequest, reply: FastifyReply): void => {
      // The end of a stream says nothing of how fast it was answered.
      if (canStream && reply.statusCode === 200 && request.headers.accept?.includes(eventStream)) return
      const { method } = request
      const key = `${method} ${reply.statusCode}`
      let duration = ofRoute.get(key)
      if (!duration) {
        duration = durations.labels({ method, route, status: String(reply.statusCode) })
        ofRoute.set(key, duration)
      }
      duration.observe(reply.elapsedTime / 1000)
      const { refused } = reply
      if (refused !== undefined) refusals.inc({ route, code: refused })
      if (isTokenRoute) grants.inc({ grant: grantOf(route, request.body), outcome: refused ?? 'issued' })
    }
  }

  app.addHook('onRoute', (route) => {
    const { produces = [] } = (route.schema ?? {}) as { produces?: string[] }
    const count = counterOf(route.url, produces.includes(eventStream))
    refusals.inc({ route: route.url, code: 'internal_error' }, 0)
    route.onResponse = [
      ...[route.onResponse ?? []].flat(),
      (request, reply, done) => {
        count(request, reply)
        done()
      },
    ]
  })
  // All paths that are none of ours are one.
  const countNone = counterOf('none')
  app.addHook('onResponse', (request, reply, done) => {
    if (request.is404) countNone(request, reply)
    done()
  })
}
