import fc from 'fast-check'
import type { Test } from 'tap'

/**
 * Asserts that a property holds. What is told of a failure has the error itself, and the seed that makes it again:
 * `FC_SEED=<seed> npm test -- FILE`.
 */
export async function holds<Values>(
  t: Test,
  property: fc.IAsyncProperty<Values>,
  parameters: fc.Parameters<Values>,
): Promise<void> {
  const seed = process.env['FC_SEED']
  await t.resolves(
    fc.assert(property, { ...parameters, includeErrorInReport: true, ...(seed && { seed: Number(seed) }) }),
  )
}
