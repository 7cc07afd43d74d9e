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
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ConfigError } from '../config.ts'
import { Refusal } from '../errors.ts'
import type { SigningKeyRecord } from '../stores/store.ts'

declare module 'fastify' {
  interface FastifyInstance {
    signingKeys: Awaited<ReturnType<typeof createSigningKeys>>
  }
}

export type SigningAlg = SigningKeyRecord['alg']

/** A key as it is used: verifying needs the public half, signing the private one too. */
export interface SigningKey {
  kid: string
  alg: SigningAlg
  publicKey: KeyObject
  privateKey: KeyObject | undefined
  /** how AUTH_SECRET stands to what is in the store; undefined where nothing is sealed */
  sealedBy: 'current' | 'previous' | 'another' | undefined
  publicJwk: JsonWebKey
  createdAt: number
  signsFrom: number
}

/** A key as it may be shown. */
export interface SigningKeyStatus {
  kid: string
  alg: SigningAlg
  /** published and not signing yet, signing now, or only verifying what it signed before */
  state: 'next' | 'current' | 'previous'
  createdAt: number
  signsFrom: number
  /** of a previous one: when it goes */
  retiresAt?: number
}

const generateKeyPair = promisify(generateKeyPairCallback)

/** A new key is published for so long before it signs: twice the max-age of the JWKS. */
const publishLeadMs = 10 * 60_000
/** A superseded key stays for so long after its last token has expired: clocks differ, and AUTH_ACCESS_TTL may have been longer. */
const retirementMarginMs = 24 * 3_600_000
/** How often each process looks for keys that others made, and whether it is time for a new one. */
const pollMs = 60_000
/** An unknown kid has the store read at most once in so long, so that forged ones cost nothing. */
const lookAgainMs = 1_000
/** How often each process looks whether a key was withdrawn: with a leaked one anybody makes tokens, and they are not to be good for a minute more. */
const withdrawnLookMs = 500
const triesAtMost = 10

/**
 * The keys that access tokens are signed with: made at first start, sealed in the store, agreed on by every process,
 * published before they sign and for as long as a token of theirs is good. Or the operator's own.
 */
async function createSigningKeys(app: FastifyInstance) {
  const { config, store, secrets, now, log } = app
  const alg = config.AUTH_SIGNING_ALG
  const operatorKey = config.AUTH_SIGNING_KEY_FILE === undefined ? undefined : readKeyFile(config.AUTH_SIGNING_KEY_FILE, alg)

  let keys = new Map<string, SigningKey>()
  let lookedAt = Number.NEGATIVE_INFINITY
  /** the last look, which may be under way or have failed */
  let looked: Promise<void> | undefined
  /** that the store had and does not have any more */
  const gone = new Set<string>()

  const newestFirst = () => [...keys.values()].sort((a, b) => b.createdAt - a.createdAt)
  const newestOfAlg = () => newestFirst().find((key) => key.alg === alg)

  /** Reads the store, keeping the objects of the keys that are known already. */
  function load(): Promise<void> {
    lookedAt = now()
    looked = read()
    return looked
  }

  async function read(): Promise<void> {
    const records = await store.listSigningKeys()
    const loaded = new Map<string, SigningKey>()
    for (const record of records) loaded.set(record.kid, keys.get(record.kid) ?? open(record))
    for (const kid of keys.keys()) if (!loaded.has(kid)) gone.add(kid)
    for (const kid of loaded.keys()) gone.delete(kid)
    keys = loaded
  }

  function open(record: SigningKeyRecord): SigningKey {
    const { kid, sealedPrivateKey, createdAt, signsFrom } = record
    const publicJwk: JsonWebKey = JSON.parse(record.publicJwk)
    const opened = sealedPrivateKey && secrets.open(sealedPrivateKey, sealContext(kid))
    return {
      kid,
      alg: record.alg,
      publicKey: createPublicKey({ key: publicJwk, format: 'jwk' }),
      privateKey:
        kid === operatorKey?.kid
          ? operatorKey.privateKey
          : opened && createPrivateKey({ key: opened.plaintext, format: 'der', type: 'pkcs8' }),
      sealedBy: sealedPrivateKey && (!opened ? 'another' : opened.byPrevious ? 'previous' : 'current'),
      publicJwk,
      createdAt,
      signsFrom,
    }
  }

  /** Makes the next key when there is none, when the newest is old, or when it is sealed under the secret before. */
  async function rotateIfDue(): Promise<void> {
    const newest = newestOfAlg()
    if (operatorKey) {
      if (keys.has(operatorKey.kid)) return
      if (await store.addSigningKey({ ...operatorKey.record, createdAt: after(newest), signsFrom: now() }, newest?.kid)) {
        log.info({ event: 'key.added', kid: operatorKey.kid, alg }, "the operator's signing key was added")
      }
      return load()
    }
    // Sealed by a process that has another secret, in the middle of a change of secrets: it signs with that one, and this with the one before.
    if (newest?.sealedBy === 'another') return
    const ageMs = newest ? now() - newest.createdAt : 0
    const isDue =
      !newest?.privateKey || ageMs >= config.AUTH_KEY_ROTATION * 1000 || (newest.sealedBy === 'previous' && ageMs > publishLeadMs)
    if (isDue) await add(newest, newest?.privateKey ? now() + publishLeadMs : now(), log)
  }

  /** A key comes after the one before it, whatever the clock says. */
  const after = (newest: SigningKey | undefined) => Math.max(now(), (newest?.createdAt ?? 0) + 1)

  /** Makes a key. @returns its kid; undefined when another process was faster */
  async function add(newest: SigningKey | undefined, signsFrom: number, log: FastifyBaseLogger): Promise<string | undefined> {
    const pair = await generatePair(alg)
    const publicJwk = publicJwkOf(pair.publicKey, alg)
    const kid = publicJwk.kid as string
    const der = pair.privateKey.export({ format: 'der', type: 'pkcs8' })
    const record: SigningKeyRecord = {
      kid,
      alg,
      publicJwk: JSON.stringify(publicJwk),
      sealedPrivateKey: secrets.seal(der, sealContext(kid)),
      createdAt: after(newest),
      signsFrom,
    }
    const isAdded = await store.addSigningKey(record, newest?.kid)
    if (isAdded) log.info({ event: 'key.rotated', kid, alg, signs_from: new Date(signsFrom).toISOString() }, 'a signing key was made')
    await load()
    return isAdded ? kid : undefined
  }

  /** Removes what was superseded so long ago that no token of it can be alive. */
  async function retire(): Promise<void> {
    for (const key of keys.values()) {
      const retiresAt = retirementOf(key)
      if (retiresAt !== undefined && retiresAt < now()) {
        await store.removeSigningKey(key.kid)
        log.info({ event: 'key.retired', kid: key.kid, alg: key.alg }, 'a signing key was retired')
      }
    }
  }

  /** When a key has been superseded for so long. @returns undefined while it has not been superseded */
  function retirementOf({ createdAt }: SigningKey): number | undefined {
    const signing = current()
    return createdAt < signing.createdAt ? signing.signsFrom + config.AUTH_ACCESS_TTL * 1000 + retirementMarginMs : undefined
  }

  /** Takes keys away before their time: what they signed is refused from now on. */
  async function withdraw(kids: string[], log: FastifyBaseLogger): Promise<void> {
    for (const kid of kids) {
      await store.removeSigningKey(kid)
      log.info({ event: 'key.withdrawn', kid }, 'a signing key was withdrawn: what it signed is refused')
    }
    await load()
  }

  function statusOf(key: SigningKey): SigningKeyStatus {
    const { kid, createdAt, signsFrom } = key
    const signing = current()
    const isNext = createdAt > signing.createdAt && key.alg === alg && key.privateKey !== undefined
    const retiresAt = retirementOf(key)
    const state = kid === signing.kid ? 'current' : isNext ? 'next' : 'previous'
    return { kid, alg: key.alg, state, createdAt, signsFrom, ...(retiresAt !== undefined && { retiresAt }) }
  }

  /** The key that signs now. */
  function current(): SigningKey & { privateKey: KeyObject } {
    const own = operatorKey && keys.get(operatorKey.kid)
    const usable = newestFirst().filter((key) => key.alg === alg && key.privateKey)
    // The oldest where none is ready yet: the clock was ahead when it was made.
    const ready = own ?? usable.find((key) => key.signsFrom <= now()) ?? usable.at(-1)
    if (!ready?.privateKey) throw new Error('There is no key to sign with')
    return ready as SigningKey & { privateKey: KeyObject }
  }

  await load()
  if (!operatorKey && newestOfAlg()?.sealedBy === 'another') {
    throw new ConfigError(
      'AUTH_SECRET: expected the secret that sealed the signing keys in the store; set it, or set it as AUTH_SECRET_PREVIOUS beside the new one',
    )
  }
  await rotateIfDue()

  const poll = async () => {
    try {
      await load()
      await rotateIfDue()
      await retire()
    } catch (error) {
      log.warn({ err: error }, 'the signing keys could not be looked at; those known stay in use')
    }
  }
  let isLooking = false
  /** Where a key is gone that should sign, the next one is made at once. That a store does not answer is said by `poll`. */
  const lookForWithdrawn = async () => {
    if (isLooking) return
    isLooking = true
    try {
      const kids = [...keys.keys()]
      const found = await store.findRows('signingKeys', kids)
      if (!kids.some((kid, index) => found[index] === undefined && keys.has(kid))) return
      await load()
      await rotateIfDue()
    } catch {
      // Looked for again in a moment.
    } finally {
      isLooking = false
    }
  }
  const timers = [setInterval(poll, pollMs).unref(), setInterval(lookForWithdrawn, withdrawnLookMs).unref()]
  app.addHook('onClose', async () => {
    for (const timer of timers) clearInterval(timer)
  })

  return {
    current,
    /** @returns the key of a kid, looked up again when it is unknown: another process may have made it */
    async find(kid: string): Promise<SigningKey | undefined> {
      // Those who come while it is looked up wait for that, and nobody is told that a key is not ours because we could not look.
      if (!keys.has(kid)) await (now() - lookedAt >= lookAgainMs ? load() : looked)
      return keys.get(kid)
    },
    /** The JWK Set of RFC 7517 §5: public halves only. */
    publicJwks: () => newestFirst().map(({ publicJwk }) => publicJwk),
    poll,

    /** Whether the key that a verified token was signed with has been withdrawn since; asked of each token, also of those that were verified before. */
    isWithdrawnKeyOf: (token: string): boolean => gone.size > 0 && gone.has(kidOf(token)),

    /** The keys as the store has them now, the newest first. */
    async list(): Promise<SigningKeyStatus[]> {
      await load()
      return newestFirst().map(statusOf)
    },

    /**
     * Makes the next key now, whatever the age of the one that signs.
     *
     * It is published first, and signs when every cache of the JWKS has it. Where one is on its way already, that is the next one.
     * After a leak there is no time for that: the new key signs at once and all others are withdrawn, so that every access
     * token is refused, here now and in other processes within a second. Sessions go on with their next refresh.
     *
     * @param log of who wants it
     * @throws {Refusal} 409 where the key is the operator's own
     */
    async rotateNow(log: FastifyBaseLogger, { isLeaked }: { isLeaked: boolean }): Promise<SigningKeyStatus> {
      if (operatorKey) throw new Refusal('operators_key')
      for (let tries = 1; tries <= triesAtMost; tries++) {
        await load()
        const newest = newestOfAlg()
        if (!isLeaked && newest?.privateKey && newest.signsFrom > now()) return statusOf(newest)
        const kid = await add(newest, isLeaked || !newest?.privateKey ? now() : now() + publishLeadMs, log)
        if (kid === undefined) continue
        if (isLeaked) {
          const others = [...keys.keys()].filter((other) => other !== kid)
          await withdraw(others, log)
        }
        return statusOf(keys.get(kid) as SigningKey)
      }
      throw new Error('The signing keys were changed by others all the time')
    },

    /**
     * Withdraws a key that does not sign any more, before it retires: the operator's own of before that has leaked, say.
     *
     * @throws {Refusal} 404; 409 for the one that signs
     */
    async withdraw(log: FastifyBaseLogger, kid: string): Promise<void> {
      await load()
      if (!keys.has(kid)) throw new Refusal('not_found', { detail: 'There is no such key' })
      if (kid === current().kid) throw new Refusal('key_in_use')
      await withdraw([kid], log)
    },
  }
}

/** The kid in the header of a token that has been verified. */
const kidOf = (token: string): string => JSON.parse(Buffer.from(token.slice(0, token.indexOf('.')), 'base64url').toString()).kid

/** What a sealed private key is bound to. */
export const sealContext = (kid: string) => `signing key ${kid}`

function generatePair(alg: SigningAlg): Promise<{ publicKey: KeyObject; privateKey: KeyObject }> {
  if (alg === 'ES256') return generateKeyPair('ec', { namedCurve: 'P-256' })
  if (alg === 'EdDSA') return generateKeyPair('ed25519')
  return generateKeyPair('rsa', { modulusLength: 2048 })
}

/** The public JWK with `kid` (its thumbprint, RFC 7638), `use` and `alg`. */
function publicJwkOf(publicKey: KeyObject, alg: SigningAlg): JsonWebKey {
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

function readKeyFile(path: string, alg: SigningAlg) {
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
    throw new ConfigError(`AUTH_SIGNING_KEY_FILE: expected ${expected} private key for AUTH_SIGNING_ALG=${alg} in ${path}`)
  }
  const publicJwk = publicJwkOf(createPublicKey(privateKey), alg)
  const kid = publicJwk.kid as string
  return { kid, privateKey, record: { kid, alg, publicJwk: JSON.stringify(publicJwk) } }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('signingKeys', await createSigningKeys(app))
  },
  { name: 'signing-keys', dependencies: ['store', 'secrets'] },
)
