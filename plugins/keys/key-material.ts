import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPair as generateKeyPairCallback,
  type JsonWebKey,
  type KeyObject,
} from 'node:crypto'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { ConfigError } from '../../config.ts'
import type { SigningKeyRecord } from '../../domain/signing-key.ts'

export type SigningAlg = SigningKeyRecord['alg']

const generateKeyPair = promisify(generateKeyPairCallback)

/** Makes a key for an algorithm. */
export function generatePair(alg: SigningAlg): Promise<{ publicKey: KeyObject; privateKey: KeyObject }> {
  if (alg === 'ES256') return generateKeyPair('ec', { namedCurve: 'P-256' })
  if (alg === 'EdDSA') return generateKeyPair('ed25519')
  return generateKeyPair('rsa', { modulusLength: 2048 })
}

/** The public JWK with `kid` (its thumbprint, RFC 7638), `use` and `alg`. */
export function publicJwkOf(publicKey: KeyObject, alg: SigningAlg): JsonWebKey {
  const { kty, crv, x, y, n, e } = publicKey.export({ format: 'jwk' })
  const members = kty === 'RSA' ? { e, kty, n } : kty === 'OKP' ? { crv, kty, x } : { crv, kty, x, y }
  // RFC 7638 §3.2: the required members, in the order of their names, without white space.
  const kid = createHash('sha256').update(JSON.stringify(members)).digest('base64url')
  return { ...members, kid, use: 'sig', alg } as JsonWebKey
}

/** The kind of key that each algorithm needs (RFC 7518 §3.3 and §3.4, RFC 8037 §3.1). */
const fitting: Record<SigningAlg, (key: KeyObject) => boolean> = {
  ES256: (key) => key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1',
  RS256: (key) => key.asymmetricKeyType === 'rsa' && (key.asymmetricKeyDetails?.modulusLength ?? 0) >= 2048,
  EdDSA: (key) => key.asymmetricKeyType === 'ed25519',
}

/**
 * Reads a private key of the operator's own, PEM or JWK.
 *
 * @throws {ConfigError} when there is none, or not one that fits the algorithm; what is in the file is never repeated
 */
export function readKeyFile(path: string, alg: SigningAlg) {
  const expected = { ES256: 'an EC P-256', RS256: 'an RSA (2048 bits or more)', EdDSA: 'an Ed25519' }[alg]
  let privateKey: KeyObject
  try {
    const text = readFileSync(path, 'utf8')
    privateKey = text.trimStart().startsWith('{')
      ? createPrivateKey({ key: JSON.parse(text), format: 'jwk' })
      : createPrivateKey({ key: text, format: 'pem' })
  } catch (error) {
    // Never the parser's message: it may quote the key.
    const why = (error as NodeJS.ErrnoException).code ?? 'no such key in it'
    throw new ConfigError(`AUTH_SIGNING_KEY_FILE: expected a private key as PEM or JWK in ${path}, got ${why}`)
  }
  if (!fitting[alg](privateKey)) {
    throw new ConfigError(
      `AUTH_SIGNING_KEY_FILE: expected ${expected} private key for AUTH_SIGNING_ALG=${alg} in ${path}`,
    )
  }
  const publicJwk = publicJwkOf(createPublicKey(privateKey), alg)
  const kid = publicJwk.kid as string
  return { kid, privateKey, record: { kid, alg, publicJwk: JSON.stringify(publicJwk) } }
}
