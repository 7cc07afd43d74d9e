import { type KeyObject, sign } from 'node:crypto'
import { promisify } from 'node:util'
import type { SigningKey } from '../keys/key-ring.ts'

/**
 * Makes a signer by one key, RFC 7515 §7.1, on node:crypto. `@fastify/jwt` has its key fixed when it is registered, so
 * that no new key could sign without a restart, and signs only on the thread that answers requests, where the
 * signature is half of what a token for a service costs: 12,500 of them a second, and 20,900 with signatures on
 * libuv's pool. A single one costs 37 µs of CPU against 43 (ES256, Node 20, `npm run bench:tokens`). Waking another
 * thread costs a third of a signature.
 *
 * @param typ what kind of token it is, so that none is taken for one of another kind (RFC 8725 §3.11)
 * @returns a function of the claims, and of where it signs: on this thread, or on one of libuv's pool
 */
export function createSigner({ kid, alg, privateKey }: SigningKey & { privateKey: KeyObject }, typ: string) {
  const header = encode({ alg, typ, kid })
  const hash = hashOf(alg)
  const key = { key: privateKey, dsaEncoding } as const
  // An RSA signature takes ten times as long as the others.
  const isSlow = alg === 'RS256'

  return async (claims: object, where: 'here' | 'pool'): Promise<string> => {
    const input = `${header}.${encode(claims)}`
    const bytes = Buffer.from(input)
    const signature = where === 'here' && !isSlow ? sign(hash, bytes, key) : await signInPool(hash, bytes, key)
    return `${input}.${signature.toString('base64url')}`
  }
}

/** RFC 7518 §3.4 wants the two numbers of an ECDSA signature side by side. */
export const dsaEncoding = 'ieee-p1363'
/** Ed25519 hashes by itself. */
export const hashOf = (alg: SigningKey['alg']) => (alg === 'EdDSA' ? null : 'sha256')

const signInPool = promisify(sign)
const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')
