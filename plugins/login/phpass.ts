import { Buffer } from 'node:buffer'
import { hash } from 'node:crypto'
import { setPriority } from 'node:os'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { cryptAlphabet } from './password-hash.ts'

/*
 * phpass, the "portable" hash of WordPress before 6.8: MD5 some thousand times over. No library does it off the event
 * loop, so this file is also the program of a thread, which starts when the first such hash is to be compared.
 */

interface Work {
  id: number
  /** what is hashed first: the salt and the password */
  salted: Uint8Array
  password: Uint8Array
  logRounds: number
}
interface Done {
  id: number
  digest: Uint8Array
}

const role = 'latchkey phpass'

function iterate({ salted, password, logRounds }: Work): Buffer {
  const message = Buffer.concat([hash('md5', salted, 'buffer'), password])
  // As a string of bytes: a buffer for each round takes twice as long.
  for (let round = 0; round < 2 ** logRounds; round += 1) message.write(hash('md5', message, 'binary'), 'binary')
  return message.subarray(0, 16)
}

if (!isMainThread && workerData === role) {
  letOthersGoFirst()
  parentPort?.on('message', (work: Work) => {
    parentPort?.postMessage({ id: work.id, digest: iterate(work) } satisfies Done)
  })
}

/** As `start.cts` has it for the threads of the pool: on Linux only, where each thread has its own niceness. */
function letOthersGoFirst(): void {
  if (process.platform !== 'linux') return
  try {
    setPriority(5)
  } catch {
    // A sandbox may forbid it.
  }
}

/** Base64 by the alphabet of crypt, with the lowest bits first. */
function encode(digest: Uint8Array): string {
  let text = ''
  for (let at = 0; at < digest.length; at += 3) {
    const [first = 0, second, third] = digest.subarray(at, at + 3)
    const bits = first | ((second ?? 0) << 8) | ((third ?? 0) << 16)
    const characters = second === undefined ? 2 : third === undefined ? 3 : 4
    for (let index = 0; index < characters; index += 1) text += cryptAlphabet[(bits >> (6 * index)) & 63]
  }
  return text
}

let thread: Worker | undefined
const waiting = new Map<number, { resolve: (digest: Uint8Array) => void; reject: (error: Error) => void }>()
let lastId = 0

function startThread(): Worker {
  const started = new Worker(new URL(import.meta.url), { workerData: role })
  started.on('message', ({ id, digest }: Done) => {
    waiting.get(id)?.resolve(digest)
    waiting.delete(id)
    if (waiting.size === 0) started.unref()
  })
  started.on('error', (error) => {
    thread = undefined
    for (const { reject } of waiting.values()) reject(error as Error)
    waiting.clear()
  })
  return started
}

/**
 * The digest of a password by phpass, computed in a thread of its own.
 *
 * @param logRounds rounds of MD5, as a power of 2
 * @returns 22 characters
 */
export async function phpassDigest(salt: string, password: Buffer, logRounds: number): Promise<string> {
  thread ??= startThread()
  const worker = thread
  lastId += 1
  const id = lastId
  const digest = await new Promise<Uint8Array>((resolve, reject) => {
    waiting.set(id, { resolve, reject })
    worker.ref()
    const salted = Buffer.concat([Buffer.from(salt, 'latin1'), password])
    worker.postMessage({ id, salted, password, logRounds } satisfies Work)
  })
  return encode(digest)
}
