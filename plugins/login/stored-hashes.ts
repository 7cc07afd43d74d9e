import { randomBytes } from 'node:crypto'
import { Lru } from 'toad-cache'
import { argon2 } from './argon2.ts'

/** The cost of hashing: memory in KiB. */
export interface Argon2Cost {
  memoryCost: number
  timeCost: number
  parallelism: number
}

type Verifier = (storedHash: string, password: string) => Promise<boolean>
const byArgon2: Verifier = (storedHash, password) => argon2.verify(storedHash, password)

/** By the id of a PHC string. What a verifier costs need not be known: what is missing to the cost of today is burnt after it. */
const verifiers = new Map<string, Verifier>([
  ['argon2id', byArgon2],
  ['argon2i', byArgon2],
  ['argon2d', byArgon2],
])

/** So many hashes of today's cost are remembered by how long they took: few enough to follow the load of the machine. */
const samplesAtMost = 15
/** By which part of today's memory the filling changes each time. */
const steps = { first: 0.05, least: 0.01, most: 0.2 }
const between = (least: number, value: number, most: number) => Math.max(least, Math.min(value, most))

/**
 * Compares passwords with stored hashes so that the time tells nothing: neither whether there is a hash at all, nor how old it is.
 *
 * The time of a cheaper hash is filled up to that of today's by hashing. How much is learned and not computed: what a KiB costs
 * depends on the caches and the allocator, and is three times as much at 32 MiB as at 16.
 *
 * @param cost of today's hashes
 */
export function createStoredHashes(cost: Argon2Cost) {
  const options = { ...cost, type: argon2.argon2id }
  const today = `$argon2id$v=19$m=${cost.memoryCost},t=${cost.timeCost},p=${cost.parallelism}$`
  const unpadded = (bytes: Buffer) => bytes.toString('base64').replaceAll('=', '')
  /** no password has it */
  const nobodysHash = `${today}${unpadded(randomBytes(16))}$${unpadded(randomBytes(32))}`
  const salt = randomBytes(16)
  const samplesMs: number[] = []
  /** the part of today's memory that a kind is filled up with; its kind is what stands before the salt */
  const fills = new Lru<{ part: number; step: number }>(100)

  function sample(ms: number): void {
    samplesMs.push(ms)
    if (samplesMs.length > samplesAtMost) samplesMs.shift()
  }
  async function compareNobodys(password: string): Promise<false> {
    const startedMs = performance.now()
    await argon2.verify(nobodysHash, password)
    sample(performance.now() - startedMs)
    return false
  }

  async function verify(storedHash: string, password: string): Promise<boolean> {
    const verifier = verifiers.get(/^\$([a-z0-9-]+)\$/.exec(storedHash)?.[1] ?? '')
    if (!verifier) throw new Error('No verifier knows this kind of hash')
    return verifier(storedHash, password)
  }

  const medianMs = () => samplesMs.toSorted((a, b) => a - b)[samplesMs.length >> 1] as number

  /**
   * Hashes as much as is missing to the time of a hash of today's. Each time it is a little more or less than the time before, by
   * whether that was too little or too much: so half are above the median of today's and half below, however busy the machine is.
   */
  async function fillUp(kind: string, startedMs: number, password: string): Promise<void> {
    const todayMs = medianMs()
    const missing = Math.max(0, 1 - (performance.now() - startedMs) / todayMs)
    const { part, step } = fills.get(kind) ?? { part: missing, step: steps.first }
    const memoryCost = Math.floor(part * cost.memoryCost)
    if (memoryCost >= 8 * cost.parallelism) await argon2.hash(password, { ...options, memoryCost, raw: true, salt })
    const way = performance.now() - startedMs < todayMs ? 1 : -1
    // As far as it goes one way the steps grow, and where it turns they shrink.
    const next = way * between(steps.least, Math.abs(step) * (way === Math.sign(step) ? 1.5 : 0.5), steps.most)
    fills.set(kind, { part: between(0, part + next, 1), step: next })
  }

  return {
    /** Hashes a password at today's cost. @returns a PHC string */
    make: (password: string): Promise<string> => argon2.hash(password, options),

    /**
     * @param storedHash undefined for a user that does not exist
     * @param onUnreadable is told of a hash that no password can be compared with; the error does not repeat it
     * @returns whether it is that of the password
     */
    async compare(
      storedHash: string | undefined,
      password: string,
      onUnreadable: (error: unknown) => void,
    ): Promise<boolean> {
      if (storedHash === undefined) return compareNobodys(password)
      const isOfToday = storedHash.startsWith(today)
      // What a hash of today's takes is not known before the first.
      if (!isOfToday && samplesMs.length === 0) await compareNobodys(password)
      const startedMs = performance.now()
      const isSame = await verify(storedHash, password).catch(onUnreadable)
      if (typeof isSame !== 'boolean') return compareNobodys(password)
      if (isOfToday) sample(performance.now() - startedMs)
      else await fillUp(storedHash.split('$', 4).join('$').slice(0, 100), startedMs, password)
      return isSame
    },

    /** Whether a stored hash was made below today's settings, or otherwise. */
    isOutdated(storedHash: string): boolean {
      const { memory, passes } = /^\$argon2id\$v=19\$m=(?<memory>\d+),t=(?<passes>\d+),/.exec(storedHash)?.groups ?? {}
      return memory === undefined || Number(memory) < cost.memoryCost || Number(passes) < cost.timeCost
    },
  }
}
