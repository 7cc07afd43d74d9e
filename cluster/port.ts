import { subscribe } from 'node:diagnostics_channel'
import type { AddressInfo, Server } from 'node:net'
import { acceptNoneAhead, type ListenHandle } from '../process/drain.ts'

/**
 * The port of the workers. Node's cluster listens on it in the primary, for all of them, and closes it when the last has
 * said that it is done: connections that come meanwhile are accepted, find no worker, and are reset. Here it can be
 * closed at one moment, as a single process closes its own.
 */
export function watchPort(port: number) {
  let handle: ListenHandle | undefined
  subscribe('tracing:net.server.listen:asyncEnd', (message) => {
    const { server } = message as { server: Server & { _handle?: ListenHandle } }
    if ((server.address() as AddressInfo | null)?.port === port) handle = server._handle
  })
  return {
    acceptNoneAhead: () => acceptNoneAhead(handle),
    /** Closing it once more, as the cluster does, is no error. */
    close: () => handle?.close(),
  }
}
