import { randomBytes } from 'node:crypto'
import type { CookieSerializeOptions } from '@fastify/cookie'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../../config.ts'
import { isLoopbackHost } from '../../domain/network.ts'

/**
 * Cookies of the pages. `__Host-` has a browser take them by https only, for this host alone and from it alone: no
 * neighbour below the same domain can put one in their place (RFC 6265bis §4.1.3.2). Where there is no https but on
 * this machine, they go without.
 */
export function createCookies({ AUTH_ISSUER }: Pick<Config, 'AUTH_ISSUER'>) {
  const { protocol, hostname } = new URL(AUTH_ISSUER)
  const isSecure = protocol === 'https:' || !isLoopbackHost(hostname)
  const nameOf = (name: string) => (isSecure ? `__Host-${name}` : name)
  const options: CookieSerializeOptions = { path: '/', httpOnly: true, sameSite: 'lax', secure: isSecure }
  const names = { session: nameOf('latchkey'), visit: nameOf('latchkey-form') }
  /** Set by this request: what the browser will send from now on. */
  const set = new WeakMap<FastifyRequest, Partial<Record<keyof typeof names, string>>>()

  return {
    read: (request: FastifyRequest, of: keyof typeof names): string | undefined =>
      set.get(request)?.[of] ?? request.cookies[names[of]],
    /** @param maxAgeSeconds until the browser is closed, when not given */
    write(reply: FastifyReply, of: keyof typeof names, value: string, maxAgeSeconds?: number): void {
      set.set(reply.request, { ...set.get(reply.request), [of]: value })
      reply.setCookie(names[of], value, { ...options, ...(maxAgeSeconds !== undefined && { maxAge: maxAgeSeconds }) })
    },
    clear(reply: FastifyReply, of: keyof typeof names): void {
      set.set(reply.request, { ...set.get(reply.request), [of]: '' })
      reply.clearCookie(names[of], options)
    },
  }
}

export type Cookies = ReturnType<typeof createCookies>

const wellFormedVisit = /^[\w-]{22}$/

/** What a browser has before anybody is signed in in it, and keeps until it is closed: its forms are bound to it. */
export function visitOf(cookies: Cookies, request: FastifyRequest, reply: FastifyReply): string {
  const known = cookies.read(request, 'visit')
  if (known !== undefined && wellFormedVisit.test(known)) return known
  const visit = randomBytes(16).toString('base64url')
  cookies.write(reply, 'visit', visit)
  return visit
}

/** The visit of a browser that has one; undefined where it keeps no cookies, or this is its first request. */
export function knownVisit(cookies: Cookies, request: FastifyRequest): string | undefined {
  const known = cookies.read(request, 'visit')
  return known !== undefined && wellFormedVisit.test(known) ? known : undefined
}
