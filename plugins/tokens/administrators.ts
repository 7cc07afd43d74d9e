import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Refusal } from '../../errors.ts'
import { adminScope } from '../clients/clients.ts'
import type { AccessTokenClaims } from './access-tokens.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** An onRequest hook: lets administrators pass, by a token with the scope `admin`; what is logged of the request then says `by` whom. */
    requireAdmin: (request: FastifyRequest, reply: FastifyReply) => Promise<void>
  }
}

/** Whoever types `latchkey`, in the log. No client can have this id, for there is a space in it. */
const commandLine = 'latchkey cli'

const refused = (reason: string) =>
  new Refusal('insufficient_scope', {
    detail: 'This is for administrators',
    reason,
    headers: { 'www-authenticate': `Bearer realm="latchkey", error="insufficient_scope", scope="${adminScope}"` },
  })

/** Guards `/admin/`, before anything is read of a body. */
export default fp(
  async (app: FastifyInstance) => {
    const { users, clients, uptimeMs, command } = app

    /** What the token says was so when it was made, and what is remembered of a user or client may be seconds old: this is read. */
    async function isAdministrator({ token: { sub, sid } }: FastifyRequest): Promise<boolean> {
      if (sid !== undefined) return (await users.find(sub))?.roles.includes(adminScope) ?? false
      const client = await clients.find(sub, uptimeMs())
      return client !== undefined && client.disabledAt === undefined && client.scopes.includes(adminScope)
    }

    function logAs(by: string, request: FastifyRequest, reply: FastifyReply): void {
      request.log = request.log.child({ by })
      reply.log = request.log
    }

    async function requireAdmin(request: FastifyRequest, reply: FastifyReply): Promise<void> {
      if (command && request.headers.authorization === command.key) {
        request.token = { sub: commandLine } as AccessTokenClaims
        return logAs(commandLine, request, reply)
      }
      await app.requireToken(request)
      const { sub, scope } = request.token
      logAs(sub, request, reply)
      if (!scope?.split(' ').includes(adminScope)) throw refused('the access token lacks the scope admin')
      if (!(await isAdministrator(request))) throw refused('no administrator any more')
    }
    app.decorate('requireAdmin', requireAdmin)
  },
  { name: 'administrators', dependencies: ['bearer', 'users', 'clients'] },
)
