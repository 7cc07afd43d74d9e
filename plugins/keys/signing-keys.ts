import type { KeyObject } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ConfigError } from '../../config.ts'
import type { Caller } from '../../domain/caller.ts'
import type { SigningAlg, SigningKeyStatus } from '../../domain/signing-key.ts'
import { clockSkewMs, createSteadyClock } from '../../domain/time.ts'
import { Refusal } from '../../errors.ts'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'
import type { generatePair as generate } from './key-material.ts'
import { createKeyRing, makeSigningKey, type SigningKey } from './key-ring.ts'
import { publishLeadMs, retirementOf, successorSignsFrom } from './key-schedule.ts'
import { ifSecretIsLost } from './secret-file.ts'

declare module 'fastify' {
  interface FastifyInstance {
    signingKeys: Awaited<ReturnType<typeof createSigningKeys>>
  }
}

/** How often each process looks for keys that others made, and whether it is time for a new one. */
const pollMs = 60_000

type By = Pick<Caller, 'log'>

export interface SigningKeyOptions {
  /** in the place of the one that makes a new pair: tests have RSA pairs that were made before, which take a while */
  generatePair?: typeof generate | undefined
}

/**
 * The keys that tokens are signed with: made at first start, sealed in the store, agreed on by every process, published
 * before they sign and for as long as a token of theirs is good. Or the operator's own. Where there are ID tokens, each
 * algorithm has such keys, those beside that of access tokens from when one of them is needed first: an RSA key takes a
 * while to be made, and a start does not wait for it.
 */
async function createSigningKeys(
  app: Pick<
    FastifyInstance,
    'config' | 'store' | 'secrets' | 'changes' | 'revocations' | 'jobs' | 'command' | 'now' | 'uptimeMs' | 'log'
  >,
  { generatePair }: SigningKeyOptions,
) {
  const { config, secrets, changes, revocations, jobs, command, now, uptimeMs, log } = app
  const ring = createKeyRing(app)
  const { alg, algs, operatorKey, load } = ring

  /** Makes the next key when there is none, when the newest is old, or when it is sealed under the secret before. */
  async function rotateIfDue(of: SigningAlg): Promise<void> {
    const newest = ring.newest(of)
    if (operatorKey && of === alg) {
      if (ring.get(operatorKey.kid)) return
      const record = { ...operatorKey.record, createdAt: after(newest), signsFrom: now() }
      await changes.make({ log }, 'key.added', { kid: operatorKey.kid, alg }, (store) =>
        store.addSigningKey(record, newest?.kid),
      )
      return load()
    }
    // In the middle of a change of secrets, the processes that have the other one sign with this key, and this process
    // with the one before.
    if (newest?.sealedBy === 'another' && (of === alg || ring.signing(of))) return
    const signsFrom = newest?.privateKey ? successorSignsFrom(newest, now(), config.AUTH_KEY_ROTATION.ms) : now()
    if (signsFrom !== undefined) await add({ log }, of, signsFrom)
  }

  /** Those that have keys: the others get theirs when one is needed. */
  const algsInUse = () => algs.filter((of) => of === alg || ring.newest(of))

  /** A key comes after the one before it, whatever the clock says. */
  const after = (newest: SigningKey | undefined) => Math.max(now(), (newest?.createdAt ?? 0) + 1)

  /** Makes a key. @returns its kid; undefined when another process was faster */
  async function add(by: By, alg: SigningAlg, signsFrom: number): Promise<string | undefined> {
    const newest = ring.newest(alg)
    const record = await makeSigningKey(alg, secrets, { createdAt: after(newest), signsFrom }, generatePair)
    const { kid } = record
    const made = { kid, alg, signs_from: new Date(signsFrom).toISOString() }
    const isAdded = await changes.make(by, 'key.rotated', made, (store) => store.addSigningKey(record, newest?.kid))
    await load()
    return isAdded ? kid : undefined
  }

  let completing: Promise<void> | undefined
  let completedAtMs = Number.NEGATIVE_INFINITY
  const isComplete = () => algs.every((of) => ring.signing(of) !== undefined)

  /** Makes the first key of each algorithm that has none, once for all who wait. */
  function complete(): Promise<void> {
    completing ??= (async () => {
      completedAtMs = uptimeMs()
      await load()
      for (const of of algs) if (!ring.signing(of)) await rotateIfDue(of)
    })().finally(() => {
      completing = undefined
    })
    return completing
  }

  const steadyNow = createSteadyClock(now, uptimeMs)
  /** on the clock of `uptimeMs`, when this process first saw a key superseded */
  const supersededMs = new Map<string, number>()

  /**
   * Removes what was superseded so long ago that no token of it can be alive. Not by a clock that has leapt ahead, nor
   * before this process has seen it superseded for the whole life of a token: the clock may have been wrong when it
   * started, and when the successor was made.
   */
  async function retire(): Promise<void> {
    const steady = steadyNow()
    const longestLifeMs = config.AUTH_ACCESS_TTL.ms + clockSkewMs + pollMs
    for (const key of ring.known()) {
      const { kid, alg } = key
      const retiresAt = retiresAtOf(key)
      const seenMs = supersededMs.get(kid) ?? uptimeMs()
      if (retiresAt === undefined) supersededMs.delete(kid)
      else supersededMs.set(kid, seenMs)
      if (retiresAt === undefined || retiresAt >= steady || uptimeMs() - seenMs <= longestLifeMs) continue
      await changes.make({ log }, 'key.retired', { kid, alg }, (store) => store.removeSigningKey(kid))
    }
  }

  /** The one that signs in the place of a key: that of access tokens, where its algorithm was given up. */
  const signingFor = (key: SigningKey) => ring.signingAnywhere(algs.find((of) => of === key.alg))
  const retiresAtOf = (key: SigningKey) => retirementOf(key, ring.known(), signingFor(key), config.AUTH_ACCESS_TTL.ms)

  /**
   * Removes keys before their time: what they signed is refused from now on. Other processes, and services, hear of it
   * as of a revocation.
   */
  async function removeEarly(by: By, kids: string[]): Promise<void> {
    const told = (removed: string[]) => removed.map((kid) => ({ kid }))
    await changes.make(by, 'key.withdrawn', told, (store, end) => store.withdrawSigningKeys(kids, end()))
    await load()
  }

  /** Makes the next key of an algorithm, at once after a leak. @returns its kid, or that of one that is on its way */
  const nextOf = (by: By, of: SigningAlg, isLeaked: boolean): Promise<string> =>
    retryUntilApplied('The signing keys', async () => {
      await load()
      const newest = ring.newest(of)
      const isOnItsWay = newest?.privateKey && newest.signsFrom > now() && newest.signsFrom <= now() + publishLeadMs
      if (!isLeaked && isOnItsWay) return newest.kid
      return add(by, of, isLeaked || !newest?.privateKey ? now() : now() + publishLeadMs)
    })

  /** Whether it is the operator's own and signs, also in a service with AUTH_SIGNING_KEY_FILE that this command lacks. */
  function isOperators(kid: string): boolean {
    const key = ring.get(kid)
    return kid === operatorKey?.kid || (key?.sealedBy === undefined && ring.newest(key?.alg)?.kid === kid)
  }

  function statusOf(key: SigningKey): SigningKeyStatus {
    const { kid, createdAt, signsFrom } = key
    const signing = signingFor(key)
    const isNext = signing !== undefined && createdAt > signing.createdAt && key.alg === signing.alg && key.privateKey
    const retiresAt = retiresAtOf(key)
    const state = kid === signing?.kid ? 'current' : isNext ? 'next' : 'previous'
    return { kid, alg: key.alg, state, createdAt, signsFrom, ...(retiresAt !== undefined && { retiresAt }) }
  }

  await load()
  const sealed = ring.known().find(({ sealedBy }) => sealedBy !== undefined)
  if (!operatorKey && (ring.newest() ?? sealed)?.sealedBy === 'another') {
    throw new ConfigError(
      'AUTH_SECRET: expected the secret that sealed the signing keys in the store; set it, or set it ' +
        `as AUTH_SECRET_PREVIOUS beside the new one; ${ifSecretIsLost}`,
    )
  }
  if (!command) await rotateIfDue(alg)

  const failed = 'the signing keys could not be looked at; those known stay in use'
  async function poll(): Promise<void> {
    await load()
    for (const of of algsInUse()) await rotateIfDue(of)
    await retire()
    // What is gone must not sign, should the clock be set back.
    await load()
  }
  jobs.every(pollMs, poll, failed)
  // A key that was withdrawn elsewhere is gone when this process says that it has caught up.
  revocations.follow(async ({ revocations }) => {
    if (!revocations.some(({ kind }) => kind === 'key')) return
    await load().catch((error) => log.warn({ err: error }, failed))
    // Whoever took it away has made the next one, unless by a command with another AUTH_SIGNING_ALG.
    if (!ring.signing()) await rotateIfDue(alg).catch((error) => log.warn({ err: error }, failed))
  })

  return {
    current: ring.current,
    find: ring.find,
    /** Whether a key still is one of ours: it may have been withdrawn. */
    has: (kid: string): boolean => ring.get(kid) !== undefined,
    /** What tokens are signed by, that of access tokens first; without pages there is no other. */
    algs,
    /** The key that signs ID tokens of an algorithm; the first one is waited for. */
    async currentOf(of: SigningAlg): Promise<SigningKey & { privateKey: KeyObject }> {
      if (!ring.signing(of)) await complete()
      return ring.current(of)
    },
    /**
     * The JWK Set of RFC 7517 §5: public halves only, those of access tokens first, for some take the first that they
     * find. It has a key of each algorithm, or else what this process knows, where none can be written now.
     */
    async publicJwks() {
      const isTried = uptimeMs() - completedAtMs < pollMs && !completing
      if (!isComplete() && !isTried) await complete().catch((error) => log.warn({ err: error }, failed))
      return ring.known().map(({ publicJwk }) => publicJwk)
    },
    /** For tests: a look for new keys, and what is due, at once. */
    poll,

    /** The keys as this process knows them: those of access tokens first, the newest of each algorithm first. */
    known: () => ring.known().map(statusOf),
    /** The keys as the store has them now, in the same order. */
    async list(): Promise<SigningKeyStatus[]> {
      await load()
      return ring.known().map(statusOf)
    },

    /**
     * Makes the next key of each algorithm now, whatever the age of the one that signs.
     *
     * It is published first, and signs when every cache of the JWKS has it. Where one does so by then already, that is
     * the next one. After a leak there is no time for that: the new keys sign at once and all others are withdrawn, so
     * that every token is refused, here now and in other processes within a second. Sessions go on with their next
     * refresh.
     *
     * @returns that of access tokens
     * @throws {Refusal} 409 where the key is the operator's own
     */
    async rotateNow(by: By, { isLeaked }: { isLeaked: boolean }): Promise<SigningKeyStatus> {
      if (operatorKey) throw new Refusal('operators_key')
      await load()
      const next: string[] = []
      for (const of of algsInUse()) next.push(await nextOf(by, of, isLeaked))
      const others = ring.known().filter(({ kid }) => !next.includes(kid))
      if (isLeaked)
        await removeEarly(
          by,
          others.map(({ kid }) => kid),
        )
      return statusOf(ring.get(next[0] as string) as SigningKey)
    },

    /**
     * Takes a key away at once, which has been stolen, say: what it signed is refused, here now and in other processes
     * within a second. Where it is the one that signs, a new one does so first. Sessions go on with their next refresh.
     * What was revoked a moment ago is no error.
     *
     * @throws {Refusal} 404; 409 for the operator's own while it signs
     */
    async revoke(by: By, kid: string): Promise<void> {
      await retryUntilApplied('The signing keys', async () => {
        await load()
        if (isOperators(kid)) throw new Refusal('operators_key')
        const key = ring.get(kid)
        return !key || kid !== signingFor(key)?.kid || add(by, key.alg, now())
      })
      if (!ring.get(kid)) {
        // Another process may have been faster.
        await revocations.pull()
        if (!revocations.isKeyRevoked(kid)) throw new Refusal('not_found', { detail: 'There is no such key' })
      }
      await removeEarly(by, [kid])
    },
  }
}

export default fp(
  async (app: FastifyInstance, options: SigningKeyOptions) => {
    app.decorate('signingKeys', await createSigningKeys(app, options))
  },
  { name: 'signing-keys', dependencies: ['store', 'secrets', 'revocations', 'changes', 'jobs'] },
)
