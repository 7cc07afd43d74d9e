import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import type {
  AuthenticationResponseJSON,
  PublicKeyCredentialCreationOptionsJSON,
  PublicKeyCredentialRequestOptionsJSON,
  RegistrationResponseJSON,
} from '@simplewebauthn/server'
import { isoCBOR } from '@simplewebauthn/server/helpers'

/*
 * An authenticator and the browser before it, in software: it makes the messages that a device makes, byte for byte,
 * and such as no device would make.
 */

export type Algorithm = 'ES256' | 'EdDSA' | 'RS256'

/** What a device or a browser says otherwise than it should. */
export interface Lies {
  origin?: string
  rpId?: string
  /** of the client data */
  type?: string
  challenge?: string
  crossOrigin?: boolean
  topOrigin?: string
  isPresent?: boolean
  isVerified?: boolean
  isBackupEligible?: boolean
  isBackedUp?: boolean
  counter?: number
  /** null: none */
  userHandle?: string | null
  id?: string
  /** of the new credential, in the place of random bytes */
  credentialId?: Buffer
  /** signs in the place of the credential's own */
  key?: KeyObject
  signature?: Buffer
  /** in its COSE form, in the place of the credential's own */
  publicKey?: Map<number, number | Uint8Array>
  attestation?: { format: string; statement: Map<string, unknown> }
  authenticatorData?: (data: Buffer) => Buffer
}

export interface Credential {
  id: string
  rpId: string
  userHandle: string
  algorithm: Algorithm
  key: KeyObject
  publicKey: Map<number, number | Uint8Array>
  counter: number
}

const coseOf: Record<Algorithm, number> = { ES256: -7, EdDSA: -8, RS256: -257 }

/** Makes a key pair, and the public half in its COSE form, RFC 9053 and RFC 8230. */
export function makeKey(algorithm: Algorithm, modulusLength = 2048) {
  const { privateKey, publicKey } =
    algorithm === 'ES256'
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
      : algorithm === 'EdDSA'
        ? generateKeyPairSync('ed25519')
        : generateKeyPairSync('rsa', { modulusLength })
  const jwk = publicKey.export({ format: 'jwk' }) as Record<string, string>
  const bytes = (name: string) => new Uint8Array(Buffer.from(jwk[name] ?? '', 'base64url'))
  const members: Record<Algorithm, [number, number | Uint8Array][]> = {
    ES256: [
      [1, 2],
      [3, -7],
      [-1, 1],
      [-2, bytes('x')],
      [-3, bytes('y')],
    ],
    EdDSA: [
      [1, 1],
      [3, -8],
      [-1, 6],
      [-2, bytes('x')],
    ],
    RS256: [
      [1, 3],
      [3, -257],
      [-1, bytes('n')],
      [-2, bytes('e')],
    ],
  }
  return { key: privateKey, publicKey: new Map(members[algorithm]) }
}

const flags = { present: 1, verified: 4, backupEligible: 8, backedUp: 16, attested: 64 } as const
const encode = (value: unknown) => Buffer.from(isoCBOR.encode(value as Parameters<typeof isoCBOR.encode>[0]))
const sha256 = (data: string | Buffer) => createHash('sha256').update(data).digest()

/**
 * Makes a device with its browser.
 *
 * @param counts whether it counts its signatures: security keys do, passkeys that are synced do not
 */
export function createAuthenticator({
  origin = 'http://localhost:3000',
  algorithm = 'ES256' as Algorithm,
  aaguid = '00000000-0000-0000-0000-000000000000',
  isBackupEligible = false,
  counts = true,
} = {}) {
  const credentials: Credential[] = []

  function clientData(type: string, challenge: string, lies: Lies): Buffer {
    const { topOrigin } = lies
    const said = { type: lies.type ?? type, challenge: lies.challenge ?? challenge, origin: lies.origin ?? origin }
    const frame = { crossOrigin: lies.crossOrigin ?? false, ...(topOrigin !== undefined && { topOrigin }) }
    return Buffer.from(JSON.stringify({ ...said, ...frame }))
  }

  function authenticatorData(rpId: string, counter: number, lies: Lies, attested?: Buffer): Buffer {
    const { isPresent = true, isVerified = true, isBackedUp = isBackupEligible } = lies
    const said =
      (isPresent ? flags.present : 0) |
      (isVerified ? flags.verified : 0) |
      ((lies.isBackupEligible ?? isBackupEligible) ? flags.backupEligible : 0) |
      (isBackedUp ? flags.backedUp : 0) |
      (attested ? flags.attested : 0)
    const head = Buffer.alloc(5)
    head[0] = said
    head.writeUInt32BE(lies.counter ?? counter, 1)
    const data = Buffer.concat([sha256(lies.rpId ?? rpId), head, ...(attested ? [attested] : [])])
    return lies.authenticatorData?.(data) ?? data
  }

  return {
    /** those that it holds, the newest last */
    credentials,

    /** `navigator.credentials.create`. @throws where the device has a credential that the options exclude */
    create(options: PublicKeyCredentialCreationOptionsJSON, lies: Lies = {}): RegistrationResponseJSON {
      if (options.excludeCredentials?.some(({ id }) => credentials.some((one) => one.id === id)))
        throw new Error('InvalidStateError')
      const rpId = options.rp.id ?? ''
      const id = lies.credentialId ?? randomBytes(32)
      const made = makeKey(algorithm)
      const credential: Credential = {
        ...{ id: id.toString('base64url'), rpId, userHandle: options.user.id, algorithm, counter: counts ? 1 : 0 },
        ...made,
      }
      const length = Buffer.alloc(2)
      length.writeUInt16BE(id.length)
      const model = Buffer.from(aaguid.replaceAll('-', ''), 'hex')
      const attested = Buffer.concat([model, length, id, encode(lies.publicKey ?? made.publicKey)])
      const data = authenticatorData(rpId, credential.counter, lies, attested)
      const { format, statement } = lies.attestation ?? { format: 'none', statement: new Map() }
      const object = new Map<string, unknown>([
        ['fmt', format],
        ['attStmt', statement],
        ['authData', new Uint8Array(data)],
      ])
      credentials.push(credential)
      return {
        id: lies.id ?? credential.id,
        rawId: lies.id ?? credential.id,
        type: 'public-key',
        clientExtensionResults: { credProps: { rk: true } },
        authenticatorAttachment: 'platform',
        response: {
          clientDataJSON: clientData('webauthn.create', options.challenge, lies).toString('base64url'),
          attestationObject: encode(object).toString('base64url'),
          transports: ['internal', 'hybrid'],
          publicKeyAlgorithm: coseOf[algorithm],
        },
      }
    },

    /** `navigator.credentials.get`. @throws where the device has none that is allowed */
    get(options: PublicKeyCredentialRequestOptionsJSON, lies: Lies = {}): AuthenticationResponseJSON {
      const allowed = options.allowCredentials ?? []
      const credential = credentials.findLast(
        ({ id, rpId }) => rpId === options.rpId && (allowed.length === 0 || allowed.some((one) => one.id === id)),
      )
      if (!credential) throw new Error('NotAllowedError')
      if (counts) credential.counter += 1
      const data = authenticatorData(credential.rpId, credential.counter, lies)
      const client = clientData('webauthn.get', options.challenge, lies)
      const signed = Buffer.concat([data, sha256(client)])
      const hash = credential.algorithm === 'EdDSA' ? null : 'sha256'
      const { userHandle = credential.userHandle } = lies
      return {
        id: lies.id ?? credential.id,
        rawId: lies.id ?? credential.id,
        type: 'public-key',
        clientExtensionResults: {},
        response: {
          clientDataJSON: client.toString('base64url'),
          authenticatorData: data.toString('base64url'),
          signature: (lies.signature ?? sign(hash, signed, lies.key ?? credential.key)).toString('base64url'),
          ...(userHandle !== null && { userHandle }),
        },
      }
    },
  }
}
