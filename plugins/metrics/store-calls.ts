import type { RotationOutcome } from '../../domain/session.ts'
import type { Store } from '../../stores/store.ts'
import type { Meters } from './meters.ts'

/** What answers at once, or only when the process ends, or page by page. */
const untimed = new Set(['usage', 'close', 'check'])

const rotationOutcomes: RotationOutcome['outcome'][] = [
  ...(['rotated', 'repeated', 'reused'] as const),
  ...(['unknown', 'expired', 'signed_out', 'wrong_client', 'scope_exceeded', 'factor_missing'] as const),
]

/** Makes the metrics of the calls of a store. @returns what puts them around each of its methods */
export function timeCalls({ counter, histogram }: Meters): (store: Store) => Store {
  const durations = histogram(
    'latchkey_store_call_duration_seconds',
    'Time of a call of the store until it is answered, and what it wrote is on disk',
    ['method'],
  )
  const errors = counter('latchkey_store_errors_total', 'Calls that the store did not answer, or not in time', [
    'method',
  ])
  const refreshes = counter(
    'latchkey_refreshes_total',
    'What presented refresh tokens turned out to be',
    ['outcome'],
    rotationOutcomes,
  )

  return (store) => {
    const timed: Store = { ...store }
    for (const [method, call] of Object.entries(store)) {
      if (typeof call !== 'function' || untimed.has(method)) continue
      const duration = durations.labels({ method })
      errors.inc({ method }, 0)
      const isRotation = method === 'rotateSession'
      const timedCall = (...args: unknown[]) => {
        const startedMs = performance.now()
        const answer: Promise<unknown> = call(...args)
        answer.then(
          (result) => {
            duration.observe((performance.now() - startedMs) / 1000)
            if (isRotation) refreshes.inc({ outcome: (result as RotationOutcome).outcome })
          },
          () => {
            duration.observe((performance.now() - startedMs) / 1000)
            errors.inc({ method })
          },
        )
        return answer
      }
      Object.assign(timed, { [method]: timedCall })
    }
    return timed
  }
}
