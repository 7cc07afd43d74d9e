import type { Worker } from 'node:cluster'

/**
 * Watches the connections that the primary passes to a worker. The primary keeps each open until the worker says that
 * it has it; when the worker is killed in between, Node forgets the connection, and its client would wait for ever.
 */
export function watchDeliveries({ process: child }: Worker) {
  let last: { close?(): void } | undefined
  /** the number by which the worker says that it has it */
  let underWay: number | undefined
  const send = child.send as (...args: unknown[]) => boolean
  child.send = (message: unknown, handle?: unknown, ...rest: unknown[]) => {
    // One at a time: the next follows when this one was taken.
    if (handle && typeof handle === 'object') {
      last = handle
      underWay = (message as { seq?: number }).seq
    }
    return send.call(child, message, handle, ...rest)
  }
  child.on('internalMessage', ({ ack }: { ack?: number }) => {
    // Node may have sent the next one already.
    if (ack === underWay) underWay = undefined
  })
  return {
    isBusy: () => underWay !== undefined,
    /**
     * Closes the last connection in case it was not taken. One that was is closed here already, and closing it again
     * does nothing.
     */
    closeLast: () => last?.close?.(),
  }
}
