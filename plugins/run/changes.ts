import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { type End, revocationExpiry } from '../../domain/lifetimes.ts'
import type { ChangeName, MembersOf } from '../../events.ts'
import type { Store } from '../../stores/store.ts'

declare module 'fastify' {
  interface FastifyInstance {
    changes: ReturnType<typeof createChanges>
  }
}

/** The methods of the store whose writes somebody has to be told of. `app.store` is typed without them. */
export type ToldWrites =
  | 'createUser'
  | 'changePassword'
  | 'deleteUser'
  | 'disableUser'
  | 'enableUser'
  | 'setRoles'
  | 'importUsers'
  | 'createClient'
  | 'replaceClient'
  | 'deleteClient'
  | 'createSession'
  | 'rotateSession'
  | 'endSession'
  | 'endUserSessions'
  | 'addSigningKey'
  | 'removeSigningKey'
  | 'withdrawSigningKeys'
  | 'revoke'

/** The store, and a maker of the `End` that ends access tokens. */
type Write<Result> = (store: Store, end: () => End) => Promise<Result>

/** What an event says: its members, or a function of what the write made, which has none where nothing was changed. */
type Told<Name extends ChangeName, Result> =
  | MembersOf<Name>
  | ((result: Result) => MembersOf<Name> | MembersOf<Name>[] | undefined)

/**
 * The one door for writes that somebody has to be told of. With the write goes its event, which also has the caches
 * forget what was changed; and where access tokens end, this process and the others of this machine refuse them before
 * anything is answered.
 */
function createChanges({
  config,
  store,
  events,
  revocations,
  now,
}: Pick<FastifyInstance, 'config' | 'store' | 'events' | 'revocations' | 'now'>) {
  const accessTtlSeconds = config.AUTH_ACCESS_TTL.seconds

  async function run<Result>(write: Write<Result>, tell: (result: Result) => boolean): Promise<Result> {
    let endsTokens = false
    const end = () => {
      endsTokens = true
      return { now: now(), expiresAt: revocationExpiry(now(), accessTtlSeconds) } as End
    }
    const result = await write(store as Store, end)
    if (tell(result) && endsTokens) await revocations.pull()
    return result
  }

  return {
    /**
     * Changes something in the store and tells of it.
     *
     * @param write what resolves with false or undefined has changed nothing, and nothing is told
     * @returns what the write resolved with
     */
    make: <Name extends ChangeName, Result>(
      caller: Pick<Caller, 'log'>,
      event: Name,
      told: Told<Name, Result>,
      write: Write<Result>,
    ): Promise<Result> =>
      run(write, (result) => {
        const isFunction = typeof told === 'function'
        const members = isFunction ? told(result) : result === false || result === undefined ? undefined : told
        const all = members === undefined ? [] : Array.isArray(members) ? members : [members]
        for (const each of all) events.publish(caller, event, each)
        return all.length > 0
      }),

    /** Corrects times that a wrong clock has written. It is no change that anybody made, so it has no event. */
    repair: <Result>(write: (store: Store) => Promise<Result>): Promise<Result> => write(store as Store),
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('changes', createChanges(app))
  },
  { name: 'changes', dependencies: ['store', 'events', 'revocations'] },
)
