import type { Server } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Hold } from '../process/drain.ts'
import { openChannel } from './channel.ts'
import type { PrimaryProcedures, StartFailure, StartLine, WorkerProcedures } from './protocol.ts'

/** For requests that a worker cannot go on without: the primary is always quick, but the machine may be busy. */
const startTimeoutMs = 10_000
/** For an administrator who waits. */
const explainTimeoutMs = 1_000
/** How long a drained worker waits for the others to be drained too. */
const closeTimeoutMs = 5_000
const checkMs = 10

/** The worker's side of a cluster. */
export function joinPrimary() {
  let app: FastifyInstance | undefined
  let hold: Hold = async () => () => {}
  let release = () => {}
  const catchUp = coalesced(async () => {
    // A store that does not answer is reported where it is polled.
    await app?.revocations.catchUp().catch(() => {})
  })
  const primary = openChannel<PrimaryProcedures, WorkerProcedures>(process, {
    catchUp,
    async hold() {
      release = await hold()
    },
    explain: (requestId) => app?.explanations.heldHere(requestId),
    metrics: () => app?.metrics?.snapshot(),
  })

  return {
    /**
     * Makes an app that does not listen yet one of several. A revocation made here is known to the others before it is
     * answered, and theirs are known here.
     */
    async join(joining: FastifyInstance): Promise<void> {
      app = joining
      app.explanations.askOthersBy((requestId) => primary.request('explain', [requestId], explainTimeoutMs))
      app.revocations.tellOthersBy(coalesced(() => primary.request('revoked', [])))
      await primary.request('joined', [], startTimeoutMs)
      // For revocations between the app's own start and the moment at which the others began to wait for it.
      await app.revocations.catchUp()
    },
    /**
     * Says that this worker has no connections left to wait for, and closes its port when the primary closes that of
     * all.
     *
     * @param holdResponses holds them, and returns a function that releases them
     */
    async drained(server: Server, holdResponses: Hold): Promise<void> {
      hold = holdResponses
      primary.request('drained', [])
      for (const until = performance.now() + closeTimeoutMs; server.listening && performance.now() < until; )
        await sleep(checkMs)
      release()
      server.close()
    },
    listening: (line: StartLine) => primary.request('listening', [line], startTimeoutMs),
    failed: (failure: StartFailure) => primary.request('failed', [failure], startTimeoutMs),
  }
}

/** Runs `work` once at a time. Calls made while it runs share one more run, which begins after them. */
function coalesced(work: () => Promise<unknown>): () => Promise<void> {
  let running: Promise<unknown> | undefined
  let next: Promise<void> | undefined
  async function run(): Promise<void> {
    running = work()
    await running
    running = undefined
  }
  return () => {
    if (!running) return run()
    next ??= running.then(() => {
      next = undefined
      return run()
    })
    return next
  }
}
