import { fork } from 'node:child_process'
import { describeFailure } from '../failure.ts'
import { lookInto, type Sought, type Stage, type StageName, type StoreStages } from './store.ts'

/** A message of the child. */
export type ChildMessage = { stage: Stage } | { failed: string }

/** Longest time for all of it. */
const longestMs = 3_500

/** A store that is looked into: each stage by its name, as a promise. */
export interface Looking {
  at<Name extends StageName>(name: Name): Promise<StoreStages[Name]>
  /** Ends it, wherever it hangs. */
  end(): void
}

/**
 * Looks into a store. An embedded one is opened by a child: while another process holds its lock, LMDB keeps the whole
 * process waiting, and at a damaged page it ends it by a signal.
 */
export function startLooking(sought: Sought): Looking {
  const stages = new Map<StageName, PromiseWithResolvers>()
  for (const name of [
    'opened',
    'signingKeys',
    'webhooks',
    'readMs',
    'writeMs',
    'administrators',
    'appClients',
  ] as const)
    stages.set(name, withResolvers())
  const reached = ([name, value]: Stage) => stages.get(name)?.resolve(value)
  /** Of what has not been reached. */
  const failed = (message: string) => {
    for (const { reject } of stages.values()) reject(new Error(message))
  }
  const end = sought.place.kind === 'pg' ? lookHere(sought, reached, failed) : lookByChild(sought, reached, failed)
  const late = `no answer within ${longestMs / 1000} s: the disk or the database hangs, or another process holds the lock`
  setTimeout(() => failed(late), longestMs).unref()
  return { at: (name) => stages.get(name)?.promise as Promise<never>, end }
}

function lookHere(sought: Sought, reached: (stage: Stage) => void, failed: (message: string) => void): () => void {
  const look = async () => {
    for await (const stage of lookInto(sought)) reached(stage)
  }
  look().catch((error) => failed(describeFailure(error).line))
  return () => {}
}

function lookByChild(sought: Sought, reached: (stage: Stage) => void, failed: (message: string) => void): () => void {
  // Beside this file, `.ts` or compiled. Keys are bytes, which JSON has none of.
  const child = fork(import.meta.filename.replace('store-stages', 'store-child'), {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    serialization: 'advanced',
  })
  child.send(sought)
  child.on('message', (message: ChildMessage) => {
    if ('stage' in message) reached(message.stage)
    else failed(message.failed)
  })
  child.once('error', (error) => failed(error.message))
  child.once('close', (code, signal) => failed(`looking into it ended the process by ${signal ?? code}`))
  return () => child.kill('SIGKILL')
}

type PromiseWithResolvers = ReturnType<typeof withResolvers>

function withResolvers() {
  let [resolve, reject] = [(_value: unknown) => {}, (_error: Error) => {}]
  const promise = new Promise<unknown>((...both) => {
    ;[resolve, reject] = both
  })
  // Whether anybody waits for it or not.
  promise.catch(() => {})
  return { promise, resolve, reject }
}
