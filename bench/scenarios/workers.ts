/*
 * What several workers gain over one process, on LMDB: `npm run bench:workers`, with the seconds of a measurement,
 * the rounds, and the numbers of workers, such as `-- 4 5 1 2 4`.
 *
 * Where all cores are busy with one process and the load generator, more workers cannot show in the rate; the CPU
 * time of a request shows what they cost anyway.
 */
import { compare } from './compare.ts'
import { runScenario } from './scenario.ts'

const [seconds = 4, rounds = 5, ...numbers] = process.argv.slice(2).map(Number)

await runScenario(() =>
  compare(
    (numbers.length > 0 ? numbers : [1, 2]).map((workers) => ({
      name: workers === 1 ? '1 process' : `${workers} workers`,
      settings: { AUTH_WORKERS: String(workers) },
    })),
    rounds,
    seconds,
  ),
)
