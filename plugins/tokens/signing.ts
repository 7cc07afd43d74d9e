import { sign } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { promisify } from 'node:util'
import { createSigningThread, type PrivateKey, signText } from './signing-thread.ts'

/** Fewer are not worth to wake a thread for. */
const fewestTogether = 4

/** An RSA signature takes ten times as long as the others: each has a thread of libuv's pool. */
const signInPool = promisify(sign)

interface Asked {
  key: PrivateKey
  input: string
  resolve(signature: string): void
  reject(error: unknown): void
}

/** Signs what a process signs, whatever its apps are. */
const signTogether = createSigningThread()

/**
 * Makes a signer by node:crypto. `@fastify/jwt` has its key fixed when it is registered, so that no new key could sign
 * without a restart, and signs only on the thread that answers requests, where the signature is half of what a token for
 * a service costs. Here those that are asked for in one turn of the event loop are signed together in another thread,
 * where there is a core for it.
 *
 * @param workers processes that share the cores of this machine
 * @returns a function that makes a token, RFC 7515 §7.1, of a key, of `typ`, which says what kind of token it is, so that
 * none is taken for one of another kind (RFC 8725 §3.11), and of its claims
 */
export function createSigner(workers: number) {
  const hasSpareCore = availableParallelism() > workers
  /** by `typ` */
  const headers = new WeakMap<PrivateKey, Record<string, string>>()
  let asked: Asked[] = []

  function signAsked(): void {
    const all = asked
    asked = []
    const [first] = all
    const isTogether = hasSpareCore && all.length >= fewestTogether && all.every(({ key }) => key === first?.key)
    if (!first || !isTogether) {
      signHere(all)
      return
    }
    signTogether(
      first.key,
      all.map(({ input }) => input),
    ).then(
      (signatures) => {
        for (const [index, { resolve }] of all.entries()) resolve(signatures[index] as string)
      },
      // The thread has ended, which does not keep a token from anybody.
      () => signHere(all),
    )
  }

  function signatureOf(key: PrivateKey, input: string): Promise<string> {
    if (key.alg === 'RS256') return signInPool('sha256', Buffer.from(input), key.privateKey).then(base64url)
    return new Promise((resolve, reject) => {
      if (asked.push({ key, input, resolve, reject }) === 1) setImmediate(signAsked)
    })
  }

  /** The first part of a token, which all of a key and a kind have in common. */
  function headerOf(key: PrivateKey, typ: string): string {
    const ofKey = headers.get(key) ?? {}
    headers.set(key, ofKey)
    ofKey[typ] ??= encode({ alg: key.alg, typ, kid: key.kid })
    return ofKey[typ]
  }

  return async (key: PrivateKey, typ: string, claims: object): Promise<string> => {
    const input = `${headerOf(key, typ)}.${encode(claims)}`
    return `${input}.${await signatureOf(key, input)}`
  }
}

function signHere(all: Asked[]): void {
  for (const { key, input, resolve, reject } of all) {
    try {
      resolve(signText(key, input))
    } catch (error) {
      reject(error)
    }
  }
}

const base64url = (bytes: Buffer) => bytes.toString('base64url')
const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')
