/** Two changes at once seldom meet twice. As many times in a row is a loop, and not a race. */
const mostTries = 20

/**
 * Repeats a read with its compare-and-set until no other change comes in between.
 *
 * @param subject what is changed, for the error
 * @param attempt reads, decides and writes; undefined or false when another change came first
 * @returns what the attempt that was applied returned
 * @throws what an attempt throws, and an error when others are first every time
 */
export async function retryUntilApplied<Result>(
  subject: string,
  attempt: () => Promise<Result | undefined | false>,
): Promise<Result> {
  for (let tries = 1; tries <= mostTries; tries++) {
    const result = await attempt()
    if (result !== undefined && result !== false) return result
  }
  throw new Error(`${subject} changed under us ${mostTries} times in a row`)
}
