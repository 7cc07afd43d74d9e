import { AsyncLocalStorage } from 'node:async_hooks'
import type { FastifyInstance } from 'fastify'
import { StoreUnavailable } from '../../stores/store.ts'
import { storeOf } from './helper.ts'

interface Recording {
  names: string[]
  /** fails the call of this number, the first is 0 */
  failsAt?: number | undefined
}

/** Records what requests ask of the store, and can have one of these calls fail. What jobs ask is none of them. */
export function watchStore(app: FastifyInstance) {
  const running = new AsyncLocalStorage<Recording>()
  const store = storeOf(app) as unknown as Record<string, unknown>
  for (const [name, method] of Object.entries(store)) {
    if (typeof method !== 'function') continue
    store[name] = (...args: unknown[]) => {
      const recording = running.getStore()
      recording?.names.push(name)
      const isFailing = recording !== undefined && recording.names.length - 1 === recording.failsAt
      return isFailing ? Promise.reject(new StoreUnavailable(new Error('a test'))) : method.apply(store, args)
    }
  }
  return {
    /** @returns the names of the calls before the answer, of which there have to be some, and the answer */
    async of<Result>(work: () => Promise<Result>, failsAt?: number): Promise<{ names: string[]; result: Result }> {
      const recording: Recording = { names: [], failsAt }
      // `inject` begins when it is waited for.
      const result = await running.run(recording, async () => await work())
      if (recording.names.length === 0) throw new Error('nothing was asked of the store')
      return { names: [...recording.names], result }
    },
  }
}
