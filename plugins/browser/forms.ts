import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { checked } from '../../domain/checks.ts'
import { Refusal } from '../../errors.ts'
import { createCookies, knownVisit, visitOf } from './cookies.ts'

declare module 'fastify' {
  interface FastifyInstance {
    cookies: ReturnType<typeof createCookies>
    forms: ReturnType<typeof createForms>
  }
}

/**
 * Forms that are ours, and were sent by the browser that got them: each has a MAC over its address and the cookie of the
 * visit, and over who is signed in, where it is for somebody who is. A sign-in form has one too: else an attacker could
 * sign a victim in to an account of their own (login CSRF, RFC 9700 §4.7).
 */
function createForms({ secrets, cookies }: Pick<FastifyInstance, 'secrets' | 'cookies'>) {
  const mac = secrets.mac('form')

  /**
   * Of a browser session, the bits that are of its id alone: another person's sign-in makes the forms of the one before
   * nobody's, and who signs in anew, for which there is another secret, goes on with the forms that stand open.
   */
  const signedIn = (request: FastifyRequest) => (cookies.read(request, 'session') ?? '').slice(0, 21)
  const bytesOf = (visit: string, action: string, session: string) => Buffer.from(`${visit}\n${action}\n${session}`)

  return {
    /**
     * The hidden field of a form.
     *
     * @param action the path that it is sent to, below the issuer's
     * @param isForAnybody of a form that is the same whoever is signed in, such as that of the sign-in: in another tab
     *   somebody may have signed in meanwhile
     */
    hidden(request: FastifyRequest, reply: FastifyReply, action: string, isForAnybody = false): { csrf: string } {
      const session = isForAnybody ? '' : signedIn(request)
      return { csrf: mac.sign(bytesOf(visitOf(cookies, request, reply), action, session)).toString('base64url') }
    },

    /** @throws {Refusal} 403 `foreign_form` for a form that this browser did not get from here */
    check(request: FastifyRequest, action: string, isForAnybody = false): void {
      const { csrf } = (request.body ?? {}) as { csrf?: unknown }
      const visit = knownVisit(cookies, request)
      const sent = Buffer.from(typeof csrf === 'string' ? csrf : '', 'base64url')
      const session = isForAnybody ? '' : signedIn(request)
      if (visit !== undefined && sent.length === 32 && mac.verify(bytesOf(visit, action, session), sent)) return
      const seen = visit === undefined ? 'no cookie of the visit' : 'the hidden value is of another form, or missing'
      throw new Refusal('foreign_form', { checks: [checked('form_origin', seen)] })
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('cookies', createCookies(app.config))
    app.decorate('forms', createForms(app))
  },
  { name: 'forms', dependencies: ['secrets'] },
)
