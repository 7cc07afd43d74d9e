import { CommandError } from './exit.ts'

/** 128 + SIGINT */
export const interruptedExitCode = 130
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Has signals end work by its own hand, so that it leaves nothing behind.
 *
 * @param work stops with the reason of the signal, sooner or later
 */
export async function interruptible<T>(work: (interrupted: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const abort = () => controller.abort()
  for (const signal of signals) process.on(signal, abort)
  try {
    return await work(controller.signal)
  } catch (error) {
    // Whatever stopping it looked like to what was at it.
    if (controller.signal.aborted) throw new CommandError('Interrupted. Nothing was changed.', interruptedExitCode)
    throw error
  } finally {
    for (const signal of signals) process.off(signal, abort)
  }
}
