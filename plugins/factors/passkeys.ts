import type {
  AuthenticationResponseJSON,
  PublicKeyCredentialCreationOptionsJSON,
  PublicKeyCredentialRequestOptionsJSON,
  RegistrationResponseJSON,
} from '@simplewebauthn/server'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { serviceName } from '../../config/mail.ts'
import { rpIdOf } from '../../config/passkeys.ts'
import type { Passkey } from '../../domain/factor.ts'
import { isUuid } from '../../domain/ids.ts'
import type { User } from '../../domain/user.ts'
import { authenticatorModels } from './authenticator-models.ts'

declare module 'fastify' {
  interface FastifyInstance {
    passkeys: Passkeys
  }
}

/** What a new passkey is, as its authenticator says; it has no id yet, and its `name` is that of the model. */
export type RegisteredPasskey = Omit<Passkey, 'id' | 'kind' | 'createdAt' | 'usedAt'>

/** What came of a message: what is good, or what is wrong with it, for the log and for whoever has to explain it. */
export type Verified<Good> = { good: Good } | { wrong: string; isCloned?: true }

/**
 * The ceremonies of WebAuthn Level 3. A `challenge` is text that the caller has made, keeps, and takes before anything
 * is verified: nothing here knows whether it was used before, nor by whom.
 */
export interface Passkeys {
  isOn: boolean
  /** undefined where they are on */
  whyOff: string | undefined
  /** Options for `navigator.credentials.create`, in JSON. @param of.known those that the user has */
  creationOptions(
    user: Pick<User, 'id' | 'username'>,
    of: { challenge: string; known: Passkey[] },
  ): Promise<PublicKeyCredentialCreationOptionsJSON>
  /** Options for `navigator.credentials.get`, in JSON. @param of.allowed none: whichever the device has for the service */
  requestOptions(of: { challenge: string; allowed: Passkey[] }): Promise<PublicKeyCredentialRequestOptionsJSON>
  /** Verifies a registration, WebAuthn §7.1. */
  register(response: unknown, challenge: string): Promise<Verified<RegisteredPasskey>>
  /**
   * Reads to which challenge a response says that it is, before anything is verified; undefined for what is none of a
   * passkey.
   */
  challengeOf(response: unknown): string | undefined
  /**
   * Reads which credential a response is of, and whose it says that it is, before anything is verified.
   *
   * @returns `userId` only where the response has a user handle: whoever knows the user by then compares the two.
   *   undefined for what names no credential, or the handle of no user of ours
   */
  credentialOf(response: unknown): { credentialId: string; userId: string | undefined } | undefined
  /**
   * Verifies a sign-in, WebAuthn §7.2.
   *
   * @returns the passkey with its new counter, which has to be stored; `isCloned` where the signature is right and the
   *   counter is not larger than the one before
   */
  verify(passkey: Passkey, response: unknown, challenge: string): Promise<Verified<Passkey>>
}

/** COSE numbers of ES256, EdDSA and RS256, WebAuthn §5.8.5. */
const algorithms = [-7, -8, -257]
/** COSE numbers of what a key is made of, RFC 9052 §7.1 and RFC 8230 §4. */
const cose = { keyType: 1, rsa: 3, modulus: -1 } as const
/** of an RSA modulus: fewer are too weak, and more take long to check */
const modulusBytes = { least: 256, most: 512 } as const
/** WebAuthn §7.1 */
const mostIdBytes = 1023
/** The least that WebAuthn §15.1 recommends where a user has to be verified. */
const ceremonyTimeoutMs = 300_000
/** A signature in its form that is no key's: what is checked by it is the key alone. */
const anySignature = Buffer.from('3006020101020101', 'hex')
/** A counter is compared here, behind the signature. */
const notCompared = 0
const mostReasonLength = 200

function createPasskeys({ config }: Pick<FastifyInstance, 'config'>): Passkeys {
  const { hostname } = new URL(config.AUTH_ISSUER)
  const rpId = rpIdOf(config.AUTH_ISSUER) ?? hostname
  const whyOff =
    rpIdOf(config.AUTH_ISSUER) === undefined
      ? `the host of AUTH_ISSUER is an address, ${hostname}, and passkeys are of a name`
      : undefined
  const origins = config.AUTH_WEBAUTHN_ORIGINS
  const bytesOf = (challenge: string) => Buffer.from(challenge).toString('base64url')
  /** What both ceremonies expect. Said each time: other services have fallen over relying on a default. */
  const expected = (challenge: string) => ({
    expectedChallenge: bytesOf(challenge),
    expectedOrigin: origins,
    expectedRPID: rpId,
    requireUserVerification: true,
  })

  return {
    isOn: whyOff === undefined,
    whyOff,

    async creationOptions({ id, username }, { challenge, known }) {
      const { generateRegistrationOptions } = await import('@simplewebauthn/server')
      return generateRegistrationOptions({
        rpName: serviceName(config),
        rpID: rpId,
        userID: new Uint8Array(Buffer.from(id)),
        userName: username,
        userDisplayName: username,
        challenge,
        timeout: ceremonyTimeoutMs,
        attestationType: 'none',
        excludeCredentials: known.map(described),
        authenticatorSelection: { residentKey: 'required', userVerification: 'required' },
        supportedAlgorithmIDs: algorithms,
      })
    },

    async requestOptions({ challenge, allowed }) {
      const { generateAuthenticationOptions } = await import('@simplewebauthn/server')
      return generateAuthenticationOptions({
        rpID: rpId,
        challenge,
        timeout: ceremonyTimeoutMs,
        userVerification: 'required',
        allowCredentials: allowed.map(described),
      })
    },

    async register(response, challenge) {
      const { verifyRegistrationResponse } = await import('@simplewebauthn/server')
      return judging(async () => {
        const given = withoutAttestation(await import('@simplewebauthn/server/helpers'), response)
        const { registrationInfo } = await verifyRegistrationResponse({
          ...expected(challenge),
          response: given,
          supportedAlgorithmIDs: algorithms,
        })
        if (!registrationInfo) throw new Error('it is not verified')
        const { credential, aaguid, credentialDeviceType, credentialBackedUp } = registrationInfo
        refuseFrame(given.response.clientDataJSON)
        if (credential.id !== given.id) throw new Error('its id is another than that of its credential')
        if (Buffer.from(credential.id, 'base64url').length > mostIdBytes) throw new Error('its id is too long')
        await refuseUnusable(credential.publicKey)
        return {
          name: authenticatorModels[aaguid] ?? 'Passkey',
          credentialId: credential.id,
          publicKey: Buffer.from(credential.publicKey).toString('base64url'),
          counter: credential.counter,
          transports: transportsIn(credential.transports),
          aaguid,
          isBackupEligible: credentialDeviceType === 'multiDevice',
          isBackedUp: credentialBackedUp,
        }
      })
    },

    challengeOf(response) {
      const { clientDataJSON } = membersOf(membersOf(response)['response'])
      if (typeof clientDataJSON !== 'string') return undefined
      const { challenge } = membersOf(parse(clientDataJSON))
      return typeof challenge === 'string' ? Buffer.from(challenge, 'base64url').toString() : undefined
    },

    credentialOf(response) {
      const { id, response: signed } = membersOf(response)
      if (typeof id !== 'string' || id === '') return undefined
      const { userHandle } = membersOf(signed)
      if (userHandle === undefined || userHandle === null) return { credentialId: id, userId: undefined }
      if (typeof userHandle !== 'string') return undefined
      const userId = Buffer.from(userHandle, 'base64url').toString()
      return isUuid(userId) ? { credentialId: id, userId } : undefined
    },

    async verify(passkey, response, challenge) {
      const { verifyAuthenticationResponse } = await import('@simplewebauthn/server')
      return judging(async () => {
        const given = response as AuthenticationResponseJSON
        if (given.id !== passkey.credentialId) throw new Error('it is of another credential')
        const { verified, authenticationInfo } = await verifyAuthenticationResponse({
          ...expected(challenge),
          response: given,
          credential: {
            id: passkey.credentialId,
            publicKey: new Uint8Array(Buffer.from(passkey.publicKey, 'base64url')),
            counter: notCompared,
          },
        })
        if (!verified) throw new Error('its signature is wrong')
        refuseFrame(given.response.clientDataJSON)
        const { newCounter: counter, credentialDeviceType, credentialBackedUp: isBackedUp } = authenticationInfo
        if ((credentialDeviceType === 'multiDevice') !== passkey.isBackupEligible)
          throw new Error('whether it may be backed up has changed')
        const isCounted = counter > 0 || passkey.counter > 0
        if (isCounted && counter <= passkey.counter)
          throw new Cloned(`its counter is ${counter}, behind ${passkey.counter}`)
        return { ...passkey, counter, isBackedUp }
      })
    },
  }
}

class Cloned extends Error {}

/** Nothing that a stranger sends is a failure of the service, wherever in the library it fails. */
async function judging<Good>(work: () => Promise<Good>): Promise<Verified<Good>> {
  try {
    return { good: await work() }
  } catch (error) {
    const wrong = (error as Error).message.slice(0, mostReasonLength)
    return error instanceof Cloned ? { wrong, isCloned: true } : { wrong }
  }
}

const described = ({ credentialId, transports }: Passkey) => ({ id: credentialId, transports })

const membersOf = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}

/** Reads JSON in base64url; undefined where it is none. */
function parse(text: string): unknown {
  try {
    return JSON.parse(Buffer.from(text, 'base64url').toString())
  } catch {
    return undefined
  }
}

/**
 * The response as if its authenticator had attested nothing. Nobody was asked to, and some do all the same: what they
 * say is not believed, so it is not read, and its certificates name no addresses to be fetched.
 */
function withoutAttestation(
  { decodeAttestationObject, isoBase64URL, isoCBOR }: typeof import('@simplewebauthn/server/helpers'),
  response: unknown,
): RegistrationResponseJSON {
  const given = response as RegistrationResponseJSON
  const authData = decodeAttestationObject(isoBase64URL.toBuffer(given.response.attestationObject)).get('authData')
  const none = new Map<string, string | Uint8Array | Map<string, string>>()
  none.set('fmt', 'none').set('attStmt', new Map<string, string>()).set('authData', authData)
  const attestationObject = Buffer.from(isoCBOR.encode(none)).toString('base64url')
  return { ...given, response: { ...given.response, attestationObject } }
}

/** A page that shows another one in a frame could have its user sign in to what they do not see, WebAuthn §13.4.2. */
function refuseFrame(clientData: string): void {
  const { crossOrigin, topOrigin } = membersOf(parse(clientData))
  if (crossOrigin === true || topOrigin !== undefined) throw new Error('it was made in a frame of another origin')
}

/** A key by which nothing can be checked would keep its user out; it is found out now. */
async function refuseUnusable(publicKey: Uint8Array<ArrayBuffer>): Promise<void> {
  const { decodeCredentialPublicKey, verifySignature } = await import('@simplewebauthn/server/helpers')
  const key = decodeCredentialPublicKey(publicKey) as unknown as Map<number, number | Uint8Array>
  const modulus = key.get(cose.modulus)
  if (key.get(cose.keyType) === cose.rsa && modulus instanceof Uint8Array) {
    const { length } = modulus
    if (length < modulusBytes.least || length > modulusBytes.most) throw new Error(`its key has ${length * 8} bits`)
  }
  await verifySignature({ credentialPublicKey: publicKey, signature: new Uint8Array(anySignature), data: publicKey })
}

/** How a device reaches its authenticator: hints for the next options, of which browsers pass over what they do not know. */
const transportsIn = (given: unknown): string[] =>
  Array.isArray(given)
    ? given.filter((text) => typeof text === 'string' && /^[a-z-]{1,20}$/.test(text)).slice(0, 8)
    : []

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('passkeys', createPasskeys(app))
  },
  { name: 'passkeys' },
)
