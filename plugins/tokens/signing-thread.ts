import { Buffer } from 'node:buffer'
import { type KeyObject, sign } from 'node:crypto'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import type { SigningAlg } from '../keys/key-material.ts'

/*
 * Signs in a thread of its own, many at a time: to hand over a batch costs the thread that answers requests some 3 µs for
 * each signature (`npm run bench:flame -- refresh`), where one takes ten times as long. libuv's pool has a thread woken for
 * each. The thread starts when there is a batch for the first time; this file is also its program.
 */

/** A key, and what is to be signed by it, in order. */
interface Batch {
  /** of the key; its private half comes with the first batch */
  kid: string
  key?: { alg: SigningAlg; privateKey: KeyObject }
  inputs: string[]
}

export interface PrivateKey {
  kid: string
  alg: SigningAlg
  privateKey: KeyObject
}

interface Waiting {
  resolve(signatures: string[]): void
  reject(error: Error): void
}

const role = 'latchkey signing'

/**
 * Signs one text, RFC 7518 §3.
 *
 * @returns the signature in base64url
 */
export function signText({ alg, privateKey: key }: Pick<PrivateKey, 'alg' | 'privateKey'>, input: string): string {
  return sign(hashOf(alg), Buffer.from(input, 'latin1'), { key, dsaEncoding }).toString('base64url')
}

/** RFC 7518 §3.4 wants the two numbers of an ECDSA signature side by side. */
export const dsaEncoding = 'ieee-p1363'
/** Ed25519 hashes by itself. */
export const hashOf = (alg: SigningAlg) => (alg === 'EdDSA' ? null : 'sha256')

if (!isMainThread && workerData === role) {
  const keys = new Map<string, NonNullable<Batch['key']>>()
  parentPort?.on('message', ({ kid, key = keys.get(kid), inputs }: Batch) => {
    if (!key) throw new Error('a batch came without its key')
    keys.set(kid, key)
    parentPort?.postMessage(inputs.map((input) => signText(key, input)))
  })
}

/**
 * Makes the thread's other end.
 *
 * @returns a function of a key and of texts, that resolves with their signatures in base64url, in the same order; it
 * rejects when the thread ends, and starts another the next time
 */
export function createSigningThread() {
  let thread: { worker: Worker; waiting: Waiting[]; kids: Set<string> } | undefined

  function start() {
    const worker = new Worker(new URL(import.meta.url), { workerData: role })
    const started = { worker, waiting: [] as Waiting[], kids: new Set<string>() }
    worker.on('message', (signatures: string[]) => {
      started.waiting.shift()?.resolve(signatures)
      if (started.waiting.length === 0) worker.unref()
    })
    const ended = (error: Error) => {
      if (thread === started) thread = undefined
      for (const { reject } of started.waiting.splice(0)) reject(error)
    }
    worker.on('error', ended)
    worker.on('exit', () => ended(new Error('the signing thread has ended')))
    return started
  }

  return ({ kid, alg, privateKey }: PrivateKey, inputs: string[]): Promise<string[]> => {
    thread ??= start()
    const { worker, waiting, kids } = thread
    return new Promise((resolve, reject) => {
      worker.ref()
      waiting.push({ resolve, reject })
      worker.postMessage({ kid, inputs, ...(!kids.has(kid) && { key: { alg, privateKey } }) } satisfies Batch)
      kids.add(kid)
    })
  }
}
