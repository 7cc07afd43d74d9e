import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { By } from '../../domain/caller.ts'
import { type End, revocationExpiry } from '../../domain/lifetimes.ts'
import type { ChangeName, MembersOf } from '../../events.ts'
import { type AuditedWrites, createAudited } from '../../stores/audit.ts'
import type { Store } from '../../stores/store.ts'
import { auditRowOf } from './audit-rows.ts'

declare module 'fastify' {
  interface FastifyInstance {
    changes: ReturnType<typeof createChanges>
  }
}

/** The writes of the store, and a maker of the `End` that ends access tokens. */
type Write<Result> = (store: AuditedWrites, end: () => End) => Promise<Result>

/** What an event says: its members, or a function of what the write made, which has none where nothing was changed. */
type Told<Name extends ChangeName, Result> =
  | MembersOf<Name>
  | ((result: Result) => MembersOf<Name> | MembersOf<Name>[] | undefined)

/** An event of a change, and what it says. */
export type Change = { [Name in ChangeName]: { event: Name; members: MembersOf<Name> } }[ChangeName]

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
  const audited = createAudited(store as Store)

  async function tellOf<Result>(
    caller: By,
    allOf: (result: Result) => Change[],
    write: Write<Result>,
  ): Promise<Result> {
    let endsTokens = false
    const end = () => {
      endsTokens = true
      const at = now()
      return { now: at, expiresAt: revocationExpiry(at, accessTtlSeconds) } as End
    }
    const audit = (result: Result) =>
      allOf(result).map(({ event, members }) => auditRowOf(caller, event, members, now()))
    const result = await write(audited(audit), end)
    const all = allOf(result)
    for (const { event, members } of all) events.publish(caller, event, members)
    // What was gone already may have ended a moment ago: at another process, or here by a request without an answer.
    if (endsTokens && (all.length > 0 || isNothing(result))) await revocations.pull()
    return result
  }

  return {
    /**
     * Changes something in the store and tells of it.
     *
     * @param told members of the event, or a function of what the write resolves with: it may be called before the
     *   write, and more than once
     * @param write what resolves with false or undefined has changed nothing, and nothing is told
     * @returns what the write resolved with
     */
    make<Name extends ChangeName, Result>(
      caller: By,
      event: Name,
      told: Told<Name, Result>,
      write: Write<Result>,
    ): Promise<Result> {
      const allOf = (result: Result) => {
        const members = typeof told === 'function' ? told(result) : isNothing(result) ? undefined : told
        const all = members === undefined ? [] : Array.isArray(members) ? members : [members]
        return all.map((members) => ({ event, members }) as Change)
      }
      return tellOf(caller, allOf, write)
    },

    /** Makes a change that is several events in one write. @param told nothing of it where the write has changed nothing */
    makeAll: <Result>(caller: By, told: Change[], write: Write<Result>): Promise<Result> =>
      tellOf(caller, (result) => (isNothing(result) ? [] : told), write),

    /** Corrects times that a wrong clock has written. It is no change that anybody made, so it has no event. */
    repair: <Result>(write: (store: Store) => Promise<Result>): Promise<Result> => write(store as Store),
  }
}

const isNothing = (result: unknown): boolean => result === false || result === undefined

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('changes', createChanges(app))
  },
  { name: 'changes', dependencies: ['store', 'events', 'revocations'] },
)
