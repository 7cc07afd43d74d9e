import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Lru } from 'toad-cache'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { User } from '../../domain/user.ts'

declare module 'fastify' {
  interface FastifyInstance {
    profiles: ReturnType<typeof createProfiles>
  }
}

/** What people and services may see of a user. */
export type Profile = Pick<User, 'id' | 'username' | 'roles' | 'createdAt' | 'email' | 'emailKey'>

/** A younger entry is shown as it is. */
const freshMs = 5_000
/** An older entry is not shown, but read again first. */
const staleMs = 60_000

/**
 * A cache of what is shown of users. A change made by this process shows with the next request, one made elsewhere
 * after `freshMs`.
 */
function createProfiles({ store, events, uptimeMs }: Pick<FastifyInstance, 'store' | 'events' | 'uptimeMs'>) {
  const known = new Lru<Profile & { readAtMs: number }>(10_000)
  for (const about of ['user', 'email'] as const) events.on(about, ({ sub }) => known.delete(sub))

  async function read(id: string): Promise<Profile | undefined> {
    const user = await store.findUser(id)
    if (!user || user.disabledAt !== undefined) {
      known.delete(id)
      return undefined
    }
    const { username, roles, createdAt, email, emailKey } = user
    // A copy: a text of a row is a slice of the whole row, and would keep the hash of the password in memory.
    const shown = JSON.parse(JSON.stringify(omitUndefined({ id, username, roles, createdAt, email, emailKey })))
    known.set(id, { ...shown, readAtMs: uptimeMs() })
    return shown
  }

  return {
    /**
     * What may be shown of the user of an access token that has been verified.
     *
     * From memory, and read again behind the response, so that a store that stalls delays nobody; a user who is gone or
     * disabled is refused by the revocation already. Only a user of whom nothing was asked for a while is waited for.
     *
     * @returns undefined when the user is gone or disabled
     */
    async find(id: string): Promise<Profile | undefined> {
      const profile = known.get(id)
      if (!profile) return read(id)
      const ageMs = uptimeMs() - profile.readAtMs
      if (ageMs < freshMs) return profile
      const reading = read(id).catch(() => profile)
      if (ageMs >= staleMs) return reading
      profile.readAtMs = uptimeMs()
      return profile
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('profiles', createProfiles(app))
  },
  { name: 'profiles', dependencies: ['store', 'events'] },
)
