export const shuttingDown = 'shutting down: requests in flight are finished first'

/** npm and the terminal both pass a Ctrl-C on, so one arrives twice within milliseconds. */
const oneCtrlCMs = 500

/**
 * Calls `stop` at the first SIGTERM or SIGINT. A second Ctrl-C ends the process at once, with exit code 130. A second
 * SIGTERM changes nothing: a supervisor that cannot wait sends SIGKILL.
 *
 * @param isWorker a terminal sends Ctrl-C to every process, and only the primary decides
 */
export function onSignals(stop: (signal: NodeJS.Signals) => void, isWorker = false): void {
  let stoppingSinceMs: number | undefined
  const listener = (signal: NodeJS.Signals) => {
    if (stoppingSinceMs === undefined) {
      stoppingSinceMs = performance.now()
      return stop(signal)
    }
    if (!isWorker && signal === 'SIGINT' && performance.now() - stoppingSinceMs > oneCtrlCMs) process.exit(130)
  }
  process.on('SIGTERM', listener)
  process.on('SIGINT', listener)
}

/**
 * Has SIGTERM and SIGINT end the process at once, with exit code 0: as process 1 of a container it would not hear them.
 *
 * @returns a function that ends this
 */
export function endOnSignals(): () => void {
  const end = () => process.exit(0)
  process.on('SIGTERM', end)
  process.on('SIGINT', end)
  return () => {
    process.off('SIGTERM', end)
    process.off('SIGINT', end)
  }
}
