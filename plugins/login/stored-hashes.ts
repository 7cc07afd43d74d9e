import { randomBytes } from 'node:crypto'
import { Lru } from 'toad-cache'
import { noPassword } from '../../domain/user.ts'
import { argon2 } from './argon2.ts'
import { readPasswordHash } from './password-hash.ts'
import { costKey, isHashOf, wrapHash } from './verifiers.ts'

/** The cost of hashing: memory in KiB. */
export interface Argon2Cost {
  memoryCost: number
  timeCost: number
  parallelism: number
}

/** Durations of current hashes that are remembered: few enough to follow the load of the machine. */
const maxSamples = 15
/** Kinds of older hashes whose padding is remembered. */
const maxPaddings = 100
/** How much the padding changes from one comparison to the next, as a share of the current memory. */
const steps = { first: 0.05, least: 0.01, most: 0.2 }
const clamp = (least: number, value: number, most: number) => Math.max(least, Math.min(value, most))

/**
 * Compares passwords with stored hashes in constant time: neither that there is no hash shows, nor that it is an older
 * kind, or one of another system. A dearer one takes longer.
 *
 * The time of a cheaper hash is padded to that of a current one, by hashing. How much padding it takes is learned and
 * not computed: the price of a KiB depends on the caches and the allocator, and is three times as much at 32 MiB as at
 * 16.
 *
 * @param cost of current hashes
 */
export function createStoredHashes(cost: Argon2Cost) {
  const options = { ...cost, type: argon2.argon2id }
  const currentPrefix = `$argon2id$v=19$m=${cost.memoryCost},t=${cost.timeCost},p=${cost.parallelism}$`
  const unpadded = (bytes: Buffer) => bytes.toString('base64').replaceAll('=', '')
  /** the hash of no password, for users that do not exist */
  const dummyHash = `${currentPrefix}${unpadded(randomBytes(16))}$${unpadded(randomBytes(32))}`
  const paddingSalt = randomBytes(16)
  const samplesMs: number[] = []
  /** by kind of hash, `costKey`: the share of the current memory that pads it */
  const paddings = new Lru<{ share: number; step: number }>(maxPaddings)

  function addSample(ms: number): void {
    samplesMs.push(ms)
    if (samplesMs.length > maxSamples) samplesMs.shift()
  }
  const medianMs = () => samplesMs.toSorted((a, b) => a - b)[samplesMs.length >> 1] as number

  async function compareDummy(password: string): Promise<false> {
    const startedMs = performance.now()
    await argon2.verify(dummyHash, password)
    addSample(performance.now() - startedMs)
    return false
  }

  async function verify(storedHash: string, password: string): Promise<boolean> {
    const startedMs = performance.now()
    if (storedHash.startsWith(currentPrefix)) {
      const isSame = await argon2.verify(storedHash, password.normalize('NFC'))
      addSample(performance.now() - startedMs)
      return isSame
    }
    const hash = readPasswordHash(storedHash)
    if (!hash) throw new Error('No verifier knows this kind of hash')
    const isSame = await isHashOf(hash, password)
    await pad(costKey(hash, password), startedMs, password)
    return isSame
  }

  /**
   * Pads the comparison with an older hash to the duration of a current one. The share of a kind goes up when the last
   * comparison was too short and down when it was too long: half of them end above the median of current hashes and
   * half below, under any load.
   */
  async function pad(kind: string, startedMs: number, password: string): Promise<void> {
    const currentMs = medianMs()
    const missing = Math.max(0, 1 - (performance.now() - startedMs) / currentMs)
    const { share, step } = paddings.get(kind) ?? { share: missing, step: steps.first }
    const memoryCost = Math.floor(share * cost.memoryCost)
    const minMemoryCost = 8 * cost.parallelism
    if (memoryCost >= minMemoryCost)
      await argon2.hash(password, { ...options, memoryCost, raw: true, salt: paddingSalt })
    const direction = performance.now() - startedMs < currentMs ? 1 : -1
    // Steps grow while the direction stays, and shrink when it turns.
    const growth = direction === Math.sign(step) ? 1.5 : 0.5
    const next = direction * clamp(steps.least, Math.abs(step) * growth, steps.most)
    paddings.set(kind, { share: clamp(0, share + next, 1), step: next })
  }

  return {
    /** Hashes a password, after NFC, at the current cost. @returns a PHC string */
    make: (password: string): Promise<string> => argon2.hash(password, options),

    /**
     * @param storedHash undefined for a user that does not exist, `noPassword` for one who has none
     * @param password as typed
     * @param onUnreadable gets the error of a hash that cannot be compared; the error does not repeat the hash
     * @returns whether the hash is that of the password
     */
    async compare(
      storedHash: string | undefined,
      password: string,
      onUnreadable: (error: unknown) => void,
    ): Promise<boolean> {
      if (storedHash === undefined || storedHash === noPassword) return compareDummy(password)
      // Before the first current hash its duration is not known.
      if (samplesMs.length === 0 && !storedHash.startsWith(currentPrefix)) await compareDummy(password)
      const isSame = await verify(storedHash, password).catch(onUnreadable)
      return typeof isSame === 'boolean' ? isSame : compareDummy(password)
    },

    /** Puts a hash of the current cost over the digest of another: see `wrapHash`. */
    wrap: (storedHash: string): Promise<string> => wrapHash(storedHash, (digest) => argon2.hash(digest, options)),

    /** Whether a stored hash is of another kind than a current one, or cheaper. */
    isOutdated(storedHash: string): boolean {
      const { memory, passes } = /^\$argon2id\$v=19\$m=(?<memory>\d+),t=(?<passes>\d+),/.exec(storedHash)?.groups ?? {}
      return memory === undefined || Number(memory) < cost.memoryCost || Number(passes) < cost.timeCost
    },
  }
}
