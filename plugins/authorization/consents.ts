import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { type Client, clientBirth } from '../../domain/client.ts'
import { type Consent, covers } from '../../domain/consent.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { User } from '../../domain/user.ts'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'

declare module 'fastify' {
  interface FastifyInstance {
    consents: ReturnType<typeof createConsents>
  }
}

/** Of one user; when there are more, the oldest is forgotten, and asked for again. */
const mostConsents = 200

/** What users have allowed apps. Two answers at once both count: the row is changed by compare-and-set. */
function createConsents({
  store,
  changes,
  sessions,
  now,
}: Pick<FastifyInstance, 'store' | 'changes' | 'sessions' | 'now'>) {
  const noConsents = { consents: [] as Consent[], version: 0 }
  const of = async (userId: string) => (await store.findConsents(userId)) ?? { userId, ...noConsents }
  const ofClient = (client: Client) => omitUndefined({ clientId: client.id, clientCreatedAt: clientBirth(client) })

  /** Ends what an app has of a user. */
  async function endSessions(caller: Caller, userId: string, clientId: string): Promise<void> {
    let after: string | undefined
    do {
      const page = await sessions.list(userId, { limit: 100, ...(after !== undefined && { after }) })
      const its = page.sessions.filter((session) => session.clientId === clientId)
      for (const { id } of its) await sessions.end(caller, id, userId)
      after = page.next
    } while (after !== undefined)
  }

  return {
    /** What a user has allowed, the latest first. */
    of: async (userId: string): Promise<Consent[]> =>
      (await of(userId)).consents.toSorted((a, b) => b.grantedAt - a.grantedAt),

    /** Whether a user has allowed an app a scope. */
    covers: async (userId: string, client: Client, scope: string[]): Promise<boolean> =>
      covers((await of(userId)).consents, ofClient(client), scope),

    /** Writes down that a user has allowed an app a scope, beside what it was allowed before. */
    give: (caller: Caller, user: User, client: Client, scope: string[]): Promise<unknown> =>
      retryUntilApplied('The consents', async () => {
        const { consents, version: expectedVersion } = await of(user.id)
        const its = ofClient(client)
        const before = consents.find((one) => one.clientId === client.id && one.clientCreatedAt === its.clientCreatedAt)
        const given: Consent = { ...its, scope: [...new Set([...(before?.scope ?? []), ...scope])], grantedAt: now() }
        const others = consents.filter(({ clientId }) => clientId !== client.id)
        const next = [given, ...others.toSorted((a, b) => b.grantedAt - a.grantedAt)].slice(0, mostConsents)
        const members = { sub: user.id, client_id: client.id, scope: scope.join(' ') }
        return changes.make(caller, 'consent.given', members, (store) =>
          store.changeConsents({ userId: user.id, expectedVersion, next }),
        )
      }),

    /**
     * Takes back what a user has allowed an app, and ends its sessions of the user.
     *
     * @returns false where it was allowed nothing
     */
    async withdraw(caller: Caller, userId: string, clientId: string): Promise<boolean> {
      const isWithdrawn = await retryUntilApplied('The consents', async () => {
        const { consents, version: expectedVersion } = await of(userId)
        const next = consents.filter((one) => one.clientId !== clientId)
        if (next.length === consents.length) return { withdrawn: false }
        const isDone = await changes.make(caller, 'consent.withdrawn', { sub: userId, client_id: clientId }, (store) =>
          store.changeConsents({ userId, expectedVersion, next }),
        )
        return isDone && { withdrawn: true }
      })
      await endSessions(caller, userId, clientId)
      return isWithdrawn.withdrawn
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('consents', createConsents(app))
  },
  { name: 'consents', dependencies: ['store', 'changes', 'sessions'] },
)
