import { argon2, argon2Build } from '../../plugins/login/argon2.ts'
import { type Check, median, ok, warning } from './check.ts'
import type { Facts } from './facts.ts'

/** A password hash, measured here. */
export interface HashFact {
  ms: number
  build: typeof argon2Build
}

const rounds = 3
/** A login takes as long as its hash, and the whole machine so many a second as it has cores for. */
const msAtMost = 500
/** What still leaves some ten logins a second to a core. */
const msAffordable = 100

/** Hashes by the settings, one after the other, as a login does alone. */
export async function measureHash({ config }: Pick<Facts, 'config'>): Promise<HashFact> {
  const { AUTH_ARGON2_MEMORY, AUTH_ARGON2_TIME, AUTH_ARGON2_PARALLELISM } = config()
  const options = {
    memoryCost: AUTH_ARGON2_MEMORY,
    timeCost: AUTH_ARGON2_TIME,
    parallelism: AUTH_ARGON2_PARALLELISM,
  }
  const times: number[] = []
  // The first has its memory to fetch.
  for (let round = 0; round <= rounds; round++) {
    const startedAt = performance.now()
    await argon2.hash('a password', options)
    if (round > 0) times.push(performance.now() - startedAt)
  }
  return { ms: median(times), build: argon2Build }
}

/** What a login costs on this machine. */
export const hashing: Check<Facts>[] = [
  {
    id: 'hash.build',
    async find({ hash }) {
      if ((await hash()).build === 'compiled') return ok('argon2 is compiled for this machine')
      return ok(
        'argon2 is the one that came prebuilt',
        'with g++ here, npm run postinstall makes logins about twice as fast',
      )
    },
  },
  {
    id: 'hash.time',
    async find({ hash, config, machine }) {
      const { ms } = await hash()
      const { AUTH_ARGON2_MEMORY: kib, AUTH_HASH_CONCURRENCY: atOnce } = config()
      const seen = `${ms.toFixed(ms < 10 ? 1 : 0)} ms with ${kib} KiB, so ${Math.floor((atOnce * 1000) / ms)} logins a second`
      if (ms > msAtMost)
        return warning(seen, 'AUTH_ARGON2_MEMORY', `lower it towards 19456: a login takes longer than ${msAtMost} ms`)
      // Time goes with memory. An eighth of the memory is for hashes at most.
      const most = machine.memoryBytes / 8 / 1024 / atOnce
      const affordable = 2 ** Math.floor(Math.log2(Math.min(kib * (msAffordable / ms), most, 2 ** 18)))
      if (affordable < 2 * kib) return ok(seen)
      return ok(
        seen,
        `AUTH_ARGON2_MEMORY=${affordable} would make guessing dearer, at some ${Math.round((ms * affordable) / kib)} ms`,
      )
    },
  },
]
