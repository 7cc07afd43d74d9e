import { createPrivateKey, createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ConfigError } from '../../config.ts'
import type { SigningKeyRecord } from '../../domain/signing-key.ts'
import { clockSkewMs, createSteadyClock, elapsedMs, isFuture } from '../../domain/time.ts'
import { Refusal } from '../../errors.ts'
import { generatePair, publicJwkOf, readKeyFile, type SigningAlg } from './key-material.ts'

export type { SigningAlg } from './key-material.ts'

declare module 'fastify' {
  interface FastifyInstance {
    signingKeys: Awaited<ReturnType<typeof createSigningKeys>>
  }
}

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

/** A new key is published for so long before it signs: twice the max-age of the JWKS. */
const publishLeadMs = 10 * 60_000
/** A superseded key stays for so long after its last token has expired: clocks differ, and AUTH_ACCESS_TTL may have been longer. */
const retirementMarginMs = 24 * 3_600_000
/** How often each process looks for keys that others made, and whether it is time for a new one. */
const pollMs = 60_000
/** An unknown kid has the store read at most once in so long, so that forged ones cost nothing. */
const lookAgainMs = 1_000
const triesAtMost = 10

/**
 * The keys that access tokens are signed with: made at first start, sealed in the store, agreed on by every process,
 * published before they sign and for as long as a token of theirs is good. Or the operator's own.
 */
async function createSigningKeys(app: FastifyInstance) {
  const { config, store, secrets, now, uptimeMs, log } = app
  const alg = config.AUTH_SIGNING_ALG
  const operatorKey =
    config.AUTH_SIGNING_KEY_FILE === undefined ? undefined : readKeyFile(config.AUTH_SIGNING_KEY_FILE, alg)

  let keys = new Map<string, SigningKey>()
  let lookedAtMs = Number.NEGATIVE_INFINITY
  /** the last look, which may be under way or have failed */
  let looked: Promise<void> | undefined

  const newestFirst = () => [...keys.values()].sort((a, b) => b.createdAt - a.createdAt)
  const newestOfAlg = () => newestFirst().find((key) => key.alg === alg)

  /** Reads the store, keeping the objects of the keys that are known already. */
  function load(): Promise<void> {
    lookedAtMs = uptimeMs()
    looked = read()
    return looked
  }

  async function read(): Promise<void> {
    const records = await store.listSigningKeys()
    const loaded = new Map<string, SigningKey>()
    for (const record of records) loaded.set(record.kid, keys.get(record.kid) ?? open(record))
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
      if (
        await store.addSigningKey({ ...operatorKey.record, createdAt: after(newest), signsFrom: now() }, newest?.kid)
      ) {
        log.info({ event: 'key.added', kid: operatorKey.kid, alg }, "the operator's signing key was added")
      }
      return load()
    }
    // Sealed by a process that has another secret, in the middle of a change of secrets: it signs with that one, and this with the one before.
    if (newest?.sealedBy === 'another') return
    const ageMs = newest ? elapsedMs(newest.signsFrom, now()) : 0
    const isDue =
      !newest?.privateKey ||
      ageMs >= config.AUTH_KEY_ROTATION.ms ||
      (newest.sealedBy === 'previous' && ageMs > publishLeadMs) ||
      // Made by a clock that was ahead: it would sign when this one is there, and no other would be made until then.
      isFuture(newest.signsFrom - publishLeadMs, now())
    if (isDue) await add(newest, newest?.privateKey ? now() + publishLeadMs : now(), log)
  }

  /** A key comes after the one before it, whatever the clock says. */
  const after = (newest: SigningKey | undefined) => Math.max(now(), (newest?.createdAt ?? 0) + 1)

  /** Makes a key. @returns its kid; undefined when another process was faster */
  async function add(
    newest: SigningKey | undefined,
    signsFrom: number,
    log: FastifyBaseLogger,
  ): Promise<string | undefined> {
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
    if (isAdded)
      log.info(
        { event: 'key.rotated', kid, alg, signs_from: new Date(signsFrom).toISOString() },
        'a signing key was made',
      )
    await load()
    return isAdded ? kid : undefined
  }

  const steadyNow = createSteadyClock(now, uptimeMs)
  const startedMs = uptimeMs()

  /**
   * Removes what was superseded so long ago that no token of it can be alive. Not by a clock that has leapt ahead, nor before this
   * process has seen the whole life of a token: at its start the clock may have been wrong already.
   */
  async function retire(): Promise<void> {
    const steady = steadyNow()
    if (uptimeMs() - startedMs <= config.AUTH_ACCESS_TTL.ms + clockSkewMs) return
    for (const key of keys.values()) {
      const retiresAt = retirementOf(key)
      if (retiresAt !== undefined && retiresAt < steady) {
        await store.removeSigningKey(key.kid)
        log.info({ event: 'key.retired', kid: key.kid, alg: key.alg }, 'a signing key was retired')
      }
    }
  }

  /** When a key has been superseded for so long. @returns undefined while it has not been superseded */
  function retirementOf({ createdAt }: SigningKey): number | undefined {
    const signing = signsNow()
    return signing && createdAt < signing.createdAt
      ? signing.signsFrom + config.AUTH_ACCESS_TTL.ms + retirementMarginMs
      : undefined
  }

  /** Takes keys away before their time: what they signed is refused from now on. Other processes, and services, hear of it as of a revocation. */
  async function withdraw(kids: string[], log: FastifyBaseLogger): Promise<void> {
    const end = { now: now(), expiresAt: app.accessTokens.forgottenAt() }
    for (const kid of await store.withdrawSigningKeys(kids, end)) {
      log.info({ event: 'key.withdrawn', kid }, 'a signing key was withdrawn: what it signed is refused')
    }
    await app.revocations.pull()
    await load()
  }

  function statusOf(key: SigningKey): SigningKeyStatus {
    const { kid, createdAt, signsFrom } = key
    const signing = signsNow()
    const isNext =
      signing !== undefined && createdAt > signing.createdAt && key.alg === signing.alg && key.privateKey !== undefined
    const retiresAt = retirementOf(key)
    const state = kid === signing?.kid ? 'current' : isNext ? 'next' : 'previous'
    return { kid, alg: key.alg, state, createdAt, signsFrom, ...(retiresAt !== undefined && { retiresAt }) }
  }

  /** The key that signs now. @returns undefined for a command on a store that no service with its settings has used */
  function usable(): SigningKey | undefined {
    const own = operatorKey && keys.get(operatorKey.kid)
    const usable = newestFirst().filter((key) => key.alg === alg && key.privateKey)
    // The oldest where none is ready yet: the clock was ahead when it was made.
    return own ?? usable.find((key) => key.signsFrom <= now()) ?? usable.at(-1)
  }
  function current(): SigningKey & { privateKey: KeyObject } {
    const key = usable()
    if (!key?.privateKey) throw new Error('There is no key to sign with')
    return key as SigningKey & { privateKey: KeyObject }
  }
  /** What there is to be said of the store's keys, which a service with other settings than this command's may use. */
  const signsNow = () => usable() ?? newestFirst().find((key) => key.signsFrom <= now()) ?? newestFirst().at(-1)

  await load()
  const sealed = newestFirst().find(({ sealedBy }) => sealedBy !== undefined)
  if (!operatorKey && (newestOfAlg() ?? sealed)?.sealedBy === 'another') {
    throw new ConfigError(
      'AUTH_SECRET: expected the secret that sealed the signing keys in the store; set it, or set it as AUTH_SECRET_PREVIOUS beside the new one',
    )
  }
  if (!app.command) await rotateIfDue()

  const poll = async () => {
    try {
      await load()
      await rotateIfDue()
      await retire()
    } catch (error) {
      log.warn({ err: error }, 'the signing keys could not be looked at; those known stay in use')
    }
  }
  const timer = app.command ? undefined : setInterval(poll, pollMs).unref()
  app.addHook('onClose', async () => clearInterval(timer))

  return {
    current,
    /** @returns the key of a kid, looked up again when it is unknown: another process may have made it */
    async find(kid: string): Promise<SigningKey | undefined> {
      // Those who come while it is looked up wait for that, and nobody is told that a key is not ours because we could not look.
      if (!keys.has(kid)) await (uptimeMs() - lookedAtMs >= lookAgainMs ? load() : looked)
      return keys.get(kid)
    },
    /** The JWK Set of RFC 7517 §5: public halves only. */
    publicJwks: () => newestFirst().map(({ publicJwk }) => publicJwk),
    poll,

    /** Whether a key still is one of ours: it may have been withdrawn. */
    has: (kid: string): boolean => keys.has(kid),

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

/** What a sealed private key is bound to. */
export const sealContext = (kid: string) => `signing key ${kid}`

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('signingKeys', await createSigningKeys(app))
  },
  { name: 'signing-keys', dependencies: ['store', 'secrets'] },
)
