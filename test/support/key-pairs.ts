import { generatePair } from '../../plugins/keys/key-material.ts'

/* RSA pairs are made once for all apps of a process, for each takes 150 ms of CPU; what else there is costs nothing. */

const made: ReturnType<typeof generatePair>[] = []

/** @returns what makes the pairs of the apps of one test, none of which it gives twice */
export function keyPairs(): typeof generatePair {
  let given = 0
  return (alg) => {
    if (alg !== 'RS256') return generatePair(alg)
    const nth = given++
    made[nth] ??= generatePair(alg)
    return made[nth]
  }
}
