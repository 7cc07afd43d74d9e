import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { By } from '../../domain/caller.ts'
import { type EventName, logEvent, type MembersOf, type NoteName } from '../../events.ts'

declare module 'fastify' {
  interface FastifyInstance {
    events: ReturnType<typeof createEvents>
  }
}

/** The part of an event's name before the dot. */
export type Subject = EventName extends infer Name ? (Name extends `${infer Before}.${string}` ? Before : never) : never
/** What all events of a subject have in common. */
type MembersAbout<About extends Subject> = MembersOf<Extract<EventName, `${About}.${string}`>>

/** Receives events, each after its write; it must not throw. */
type Sink = (event: EventName, members: object, caller: By) => void

/** Publishes events to their sinks: the log first, then counters and caches. */
function createEvents() {
  const sinks: Sink[] = []

  function publish<Name extends EventName>(caller: By, event: Name, members: MembersOf<Name>): void {
    logEvent(caller.log, event, members)
    for (const sink of sinks) sink(event, members, caller)
  }

  return {
    /** Tells of something that changed nothing in the store; a change is told by `changes`, with its write. */
    emit: <Name extends NoteName>(caller: By, event: Name, members: MembersOf<Name>): void =>
      publish(caller, event, members),
    /** For `changes` only. */
    publish,
    /** Has every event told to a sink. */
    onAny: (sink: Sink): void => void sinks.push(sink),
    /** Has every event about a subject told, such as `user` for all of `user.…`: a cache forgets what was changed. */
    on<About extends Subject>(about: About, sink: (members: MembersAbout<About>, event: EventName) => void): void {
      sinks.push((event, members) => {
        if (event.startsWith(`${about}.`)) sink(members as MembersAbout<About>, event)
      })
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('events', createEvents())
  },
  { name: 'events' },
)
