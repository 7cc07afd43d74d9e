export const shuttingDown = 'shutting down: requests in flight are finished first'

/** npm and the terminal both pass a Ctrl-C on, so one comes twice within some milliseconds. */
const oneCtrlCMs = 500

/**
 * Calls `stop` at the first SIGTERM or SIGINT. Whoever presses Ctrl-C again does not want to wait for what is in flight. A SIGTERM
 * that is repeated changes nothing: supervisors that mean it send SIGKILL.
 *
 * @param isWorker the primary decides, and a terminal sends its Ctrl-C to each process
 */
export function onSignals(stop: (signal: NodeJS.Signals) => void, isWorker = false): void {
  let stoppingSinceMs: number | undefined
  const hear = (signal: NodeJS.Signals) => {
    if (stoppingSinceMs === undefined) {
      stoppingSinceMs = performance.now()
      return stop(signal)
    }
    if (!isWorker && signal === 'SIGINT' && performance.now() - stoppingSinceMs > oneCtrlCMs) process.exit(130)
  }
  process.on('SIGTERM', hear)
  process.on('SIGINT', hear)
}
