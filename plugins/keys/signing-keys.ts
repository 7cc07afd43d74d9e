import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ConfigError } from '../../config.ts'
import type { Caller } from '../../domain/caller.ts'
import type { SigningKeyStatus } from '../../domain/signing-key.ts'
import { clockSkewMs, createSteadyClock } from '../../domain/time.ts'
import { Refusal } from '../../errors.ts'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'
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

/**
 * The keys that access tokens are signed with: made at first start, sealed in the store, agreed on by every process,
 * published before they sign and for as long as a token of theirs is good. Or the operator's own.
 */
async function createSigningKeys(
  app: Pick<
    FastifyInstance,
    'config' | 'store' | 'secrets' | 'changes' | 'revocations' | 'jobs' | 'command' | 'now' | 'uptimeMs' | 'log'
  >,
) {
  const { config, secrets, changes, revocations, jobs, command, now, uptimeMs, log } = app
  const ring = createKeyRing(app)
  const { alg, operatorKey, load } = ring

  /** Makes the next key when there is none, when the newest is old, or when it is sealed under the secret before. */
  async function rotateIfDue(): Promise<void> {
    const newest = ring.newestOfAlg()
    if (operatorKey) {
      if (ring.get(operatorKey.kid)) return
      const record = { ...operatorKey.record, createdAt: after(newest), signsFrom: now() }
      await changes.make({ log }, 'key.added', { kid: operatorKey.kid, alg }, (store) =>
        store.addSigningKey(record, newest?.kid),
      )
      return load()
    }
    // In the middle of a change of secrets, the processes that have the other one sign with this key, and this process
    // with the one before.
    if (newest?.sealedBy === 'another') return
    const signsFrom = newest?.privateKey ? successorSignsFrom(newest, now(), config.AUTH_KEY_ROTATION.ms) : now()
    if (signsFrom !== undefined) await add({ log }, newest, signsFrom)
  }

  /** A key comes after the one before it, whatever the clock says. */
  const after = (newest: SigningKey | undefined) => Math.max(now(), (newest?.createdAt ?? 0) + 1)

  /** Makes a key. @returns its kid; undefined when another process was faster */
  async function add(by: By, newest: SigningKey | undefined, signsFrom: number): Promise<string | undefined> {
    const record = await makeSigningKey(alg, secrets, { createdAt: after(newest), signsFrom })
    const { kid } = record
    const made = { kid, alg, signs_from: new Date(signsFrom).toISOString() }
    const isAdded = await changes.make(by, 'key.rotated', made, (store) => store.addSigningKey(record, newest?.kid))
    await load()
    return isAdded ? kid : undefined
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
    for (const key of ring.newestFirst()) {
      const { kid, alg } = key
      const retiresAt = retiresAtOf(key)
      const seenMs = supersededMs.get(kid) ?? uptimeMs()
      if (retiresAt === undefined) supersededMs.delete(kid)
      else supersededMs.set(kid, seenMs)
      if (retiresAt === undefined || retiresAt >= steady || uptimeMs() - seenMs <= longestLifeMs) continue
      await changes.make({ log }, 'key.retired', { kid, alg }, (store) => store.removeSigningKey(kid))
    }
  }

  const retiresAtOf = (key: SigningKey) =>
    retirementOf(key, ring.newestFirst(), ring.signingAnywhere(), config.AUTH_ACCESS_TTL.ms)

  /**
   * Removes keys before their time: what they signed is refused from now on. Other processes, and services, hear of it
   * as of a revocation.
   */
  async function removeEarly(by: By, kids: string[]): Promise<void> {
    const told = (removed: string[]) => removed.map((kid) => ({ kid }))
    await changes.make(by, 'key.withdrawn', told, (store, end) => store.withdrawSigningKeys(kids, end()))
    await load()
  }

  /** Whether it is the operator's own and signs, also in a service with AUTH_SIGNING_KEY_FILE that this command lacks. */
  const isOperators = (kid: string) =>
    kid === operatorKey?.kid || (ring.get(kid)?.sealedBy === undefined && ring.newestFirst()[0]?.kid === kid)

  function statusOf(key: SigningKey): SigningKeyStatus {
    const { kid, createdAt, signsFrom } = key
    const signing = ring.signingAnywhere()
    const isNext = signing !== undefined && createdAt > signing.createdAt && key.alg === signing.alg && key.privateKey
    const retiresAt = retiresAtOf(key)
    const state = kid === signing?.kid ? 'current' : isNext ? 'next' : 'previous'
    return { kid, alg: key.alg, state, createdAt, signsFrom, ...(retiresAt !== undefined && { retiresAt }) }
  }

  await load()
  const sealed = ring.newestFirst().find(({ sealedBy }) => sealedBy !== undefined)
  if (!operatorKey && (ring.newestOfAlg() ?? sealed)?.sealedBy === 'another') {
    throw new ConfigError(
      'AUTH_SECRET: expected the secret that sealed the signing keys in the store; set it, or set it ' +
        `as AUTH_SECRET_PREVIOUS beside the new one; ${ifSecretIsLost}`,
    )
  }
  if (!command) await rotateIfDue()

  const failed = 'the signing keys could not be looked at; those known stay in use'
  async function poll(): Promise<void> {
    await load()
    await rotateIfDue()
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
    if (!ring.signing()) await rotateIfDue().catch((error) => log.warn({ err: error }, failed))
  })

  return {
    current: ring.current,
    find: ring.find,
    /** Whether a key still is one of ours: it may have been withdrawn. */
    has: (kid: string): boolean => ring.get(kid) !== undefined,
    /** The JWK Set of RFC 7517 §5: public halves only. */
    publicJwks: () => ring.newestFirst().map(({ publicJwk }) => publicJwk),
    /** For tests: a look for new keys, and what is due, at once. */
    poll,

    /** The keys as this process knows them, the newest first. */
    known: () => ring.newestFirst().map(statusOf),
    /** The keys as the store has them now, the newest first. */
    async list(): Promise<SigningKeyStatus[]> {
      await load()
      return ring.newestFirst().map(statusOf)
    },

    /**
     * Makes the next key now, whatever the age of the one that signs.
     *
     * It is published first, and signs when every cache of the JWKS has it. Where one does so by then already, that is
     * the next one. After a leak there is no time for that: the new key signs at once and all others are withdrawn, so
     * that every access token is refused, here now and in other processes within a second. Sessions go on with their
     * next refresh.
     *
     * @throws {Refusal} 409 where the key is the operator's own
     */
    async rotateNow(by: By, { isLeaked }: { isLeaked: boolean }): Promise<SigningKeyStatus> {
      if (operatorKey) throw new Refusal('operators_key')
      return retryUntilApplied('The signing keys', async () => {
        await load()
        const newest = ring.newestOfAlg()
        const isOnItsWay = newest?.privateKey && newest.signsFrom > now() && newest.signsFrom <= now() + publishLeadMs
        if (!isLeaked && isOnItsWay) return statusOf(newest)
        const kid = await add(by, newest, isLeaked || !newest?.privateKey ? now() : now() + publishLeadMs)
        if (kid === undefined) return undefined
        const others = ring.newestFirst().flatMap((key) => (key.kid === kid ? [] : [key.kid]))
        if (isLeaked) await removeEarly(by, others)
        return statusOf(ring.get(kid) as SigningKey)
      })
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
        return kid !== ring.signingAnywhere()?.kid || add(by, ring.newestOfAlg(), now())
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
  async (app: FastifyInstance) => {
    app.decorate('signingKeys', await createSigningKeys(app))
  },
  { name: 'signing-keys', dependencies: ['store', 'secrets', 'revocations', 'changes', 'jobs'] },
)
