import { Server, type Socket } from 'node:net'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { holdMs } from '../plugins/http/draining.ts'

/*
 * The end of a process behind a proxy (RFC 9112 §9.6). A connection that is closed while a request is on its way to it
 * loses a POST that may not be sent again. So the process first says on every response that the connection ends with
 * it, and goes on answering; then it closes the port.
 */

/**
 * How long it goes on answering, and at most this share of AUTH_SHUTDOWN_GRACE. Proxies ask for `/readyz` about once a
 * second.
 */
const drainMs = 2_000
const drainShareOfGrace = 1 / 3
/** Without a connection for this long, no more are expected. */
const quietMs = 300
const checkMs = 20
/** Left of the grace for the store to close, when connections that do not end are cut. */
const closingReserveMs = 500
/**
 * Time for the first byte on connections opened just before the end, such as those that browsers open ahead of need.
 */
const silentMs = 500
/** A longer turn of the event loop has done other work, and connections may be waiting. */
const idleTurnMs = 0.3
const idleTurnsWithinMs = 1_000
/** Between two looks for new connections while responses are held. */
const connectingMs = 3

/** What a server of Node listens by. */
export interface ListenHandle {
  listen(backlog: number): number
  close(): void
}

/**
 * Has the kernel accept one connection ahead of Node, and no more: closing the port resets those, after their clients
 * have sent a request. Whoever else connects is not answered, and is refused when TCP tries again.
 */
export const acceptNoneAhead = (handle: ListenHandle | null | undefined): void => void handle?.listen(0)

/** Holds responses until nobody connects any more. @returns a function that releases them */
export type Hold = () => Promise<() => void>

/** @returns the open connections of a server that does not listen yet, kept up to date */
export function openSockets(server: Server): Set<Socket> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  return sockets
}

/**
 * Ends the service. Requests are answered until all connections are closed or the time is up; then the port is closed,
 * and requests in flight are finished. Connections left shortly before the end of the grace are cut.
 *
 * @param sockets the open connections
 * @param graceMs AUTH_SHUTDOWN_GRACE, milliseconds
 * @param closePort stops accepting connections, with responses held by its argument, which returns a function that
 *   releases them
 */
export async function drainAndClose(
  app: FastifyInstance,
  sockets: Set<Socket>,
  graceMs: number,
  closePort: (hold: Hold) => Promise<void>,
): Promise<void> {
  setTimeout(() => app.server.closeAllConnections(), graceMs - closingReserveMs).unref()
  app.drain.begin()
  if (sockets.size > 0) await untilAllClosed(sockets, Math.min(drainMs, graceMs * drainShareOfGrace))
  // A client that waits for its response opens no connection meanwhile, and closing the port resets those not accepted
  // yet.
  await closePort(async () => {
    const release = app.drain.hold()
    if (sockets.size > 0) await untilNoneConnects(app.server)
    return release
  })
  await idleTurn(() => false)
  app.server.closeIdleConnections()

  // A connection becomes idle when its last response is sent, and would then be kept for the next request.
  const closing = setInterval(() => app.server.closeIdleConnections(), checkMs).unref()
  setTimeout(() => {
    for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy()
  }, silentMs).unref()
  await app.close()
  clearInterval(closing)
}

async function untilAllClosed(sockets: Set<Socket>, timeoutMs: number): Promise<void> {
  const startedAt = performance.now()
  let lastSeenAt = startedAt
  while (performance.now() - startedAt < timeoutMs && performance.now() - lastSeenAt < quietMs) {
    await sleep(checkMs)
    if (sockets.size > 0) lastSeenAt = performance.now()
  }
}

async function untilNoneConnects(server: Server): Promise<void> {
  const startedAt = performance.now()
  let connections = 0
  const count = () => {
    connections += 1
  }
  server.on('connection', count)
  do {
    connections = 0
    await sleep(connectingMs)
  } while (connections > 0 && performance.now() - startedAt < holdMs / 2)
  server.off('connection', count)
}

/**
 * Resolves right after a turn of the event loop that had nothing to do. Closing the port resets connections that the
 * kernel has accepted and Node has not; in the same turn there are none.
 *
 * @param isBusy whether the turn that has just ended had something to do
 */
export async function idleTurn(isBusy: () => boolean): Promise<void> {
  const until = performance.now() + idleTurnsWithinMs
  for (;;) {
    const startedAt = performance.now()
    // Resumes in the check phase, which comes after the poll for connections.
    await nextTurn()
    const now = performance.now()
    if ((!isBusy() && now - startedAt < idleTurnMs) || now > until) return
  }
}

/**
 * Closes the port of a server that shares it with no other. Later connections are refused, and their clients may go
 * elsewhere.
 */
export async function closePort(server: Server, hold: Hold): Promise<void> {
  const release = await hold()
  acceptNoneAhead((server as Server & { _handle?: ListenHandle })._handle)
  let hasAccepted = true
  const note = () => {
    hasAccepted = true
  }
  server.on('connection', note)
  await idleTurn(() => {
    const isBusy = hasAccepted
    hasAccepted = false
    return isBusy
  })
  server.off('connection', note)
  // The port alone: `close` of an HTTP server would close its idle connections first, one by one.
  Server.prototype.close.call(server)
  release()
}
