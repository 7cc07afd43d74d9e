import { ServerResponse } from 'node:http'
import { Server, type Socket } from 'node:net'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

/*
 * The end of a process behind a proxy (RFC 9112 §9.6). A connection that is closed while a request is on its way to it is a POST
 * that nobody may send again. So the process first says on every answer that the connection ends with it, and goes on answering.
 */

/** Longest time for which it goes on, and its part of AUTH_SHUTDOWN_GRACE at most. Proxies ask for `/readyz` each second or oftener. */
const drainMs = 2_000
const drainShareOfGrace = 1 / 3
/** When nobody has been connected for so long, nobody will be. */
const quietMs = 300
const checkMs = 20
/** Left of the grace, when connections that do not end are cut, for the store to close. */
const closingReserveMs = 500
/** Time for the first byte on connections that were opened just before the end, such as those that browsers open ahead. */
const silentMs = 500
/** A turn of the event loop that is longer does other work too, while connections wait. */
const idleTurnMs = 0.3
const idleTurnsWithinMs = 1_000

/** Answers wait for so long at most while the port is closed, and until nobody has connected for so long. */
const holdMs = { most: 50, quiet: 3 }

/** That the service ends: `signal` says so, and answers may be held for a moment. */
export class Drain extends AbortController {
  /** resolves when answers may go */
  held: Promise<void> | undefined

  /** Holds every answer. @returns a function that lets them go; they go by themselves after 50 ms */
  hold(): () => void {
    let release = () => {}
    this.held = new Promise((resolve) => {
      release = () => {
        this.held = undefined
        resolve()
      }
    })
    setTimeout(release, holdMs.most).unref()
    return release
  }
}

/** An answer that ends its connection once the process drains, whatever sends it: routes, errors, streams. */
export function responseThatCloses(drain: Drain): typeof ServerResponse {
  return class extends ServerResponse {
    override writeHead(statusCode: number, reason?: unknown, headers?: unknown): this {
      if (drain.signal.aborted) this.shouldKeepAlive = false
      return super.writeHead(statusCode, reason as string, headers as never)
    }
    override end(...args: unknown[]): this {
      if (!drain.held) return super.end(...(args as []))
      drain.held.then(() => super.end(...(args as [])))
      return this
    }
  } as typeof ServerResponse
}

/** @returns the connections of a server that does not listen yet, as they come and go */
export function openSockets(server: Server): Set<Socket> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  return sockets
}

/**
 * Ends the service: requests are answered until nobody is connected any more or the time is over, then no more connections are
 * accepted, and what is in flight is finished. Whatever is left shortly before the end of the grace is cut.
 *
 * @param sockets all that are open
 * @param graceMs AUTH_SHUTDOWN_GRACE, milliseconds
 * @param stopAccepting closes the port
 */
export async function drainAndClose(
  app: FastifyInstance,
  sockets: Set<Socket>,
  graceMs: number,
  stopAccepting: () => Promise<void>,
): Promise<void> {
  setTimeout(() => app.server.closeAllConnections(), graceMs - closingReserveMs).unref()
  app.drain.abort()
  if (sockets.size > 0) await untilNobodyComes(sockets, Math.min(drainMs, graceMs * drainShareOfGrace))
  // Whoever waits for an answer opens no connection meanwhile, so soon there is none that the closing of the port could reset.
  const release = app.drain.hold()
  if (sockets.size > 0) await untilNobodyConnects(app.server)
  await stopAccepting()
  release()
  await idleTurn(() => false)
  app.server.closeIdleConnections()

  // A connection whose last answer is on its way becomes idle only later, and would be kept for the next request.
  setInterval(() => app.server.closeIdleConnections(), checkMs).unref()
  setTimeout(() => {
    for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy()
  }, silentMs).unref()
  await app.close()
}

async function untilNobodyComes(sockets: Set<Socket>, withinMs: number): Promise<void> {
  const startedAt = performance.now()
  let lastSeenAt = startedAt
  while (performance.now() - startedAt < withinMs && performance.now() - lastSeenAt < quietMs) {
    await sleep(checkMs)
    if (sockets.size > 0) lastSeenAt = performance.now()
  }
}

async function untilNobodyConnects(server: Server): Promise<void> {
  const startedAt = performance.now()
  let connections = 0
  const count = () => {
    connections += 1
  }
  server.on('connection', count)
  do {
    connections = 0
    await sleep(holdMs.quiet)
  } while (connections > 0 && performance.now() - startedAt < holdMs.most / 2)
  server.off('connection', count)
}

/**
 * Resolves right after a turn of the event loop in which nothing was to be done. Connections that the kernel has accepted are reset
 * when the port is closed, so this is the moment for it: in the same turn.
 *
 * @param isBusy whether something was to be done in the turn that has just ended
 */
export async function idleTurn(isBusy: () => boolean): Promise<void> {
  const until = performance.now() + idleTurnsWithinMs
  for (;;) {
    const startedAt = performance.now()
    // Goes on in the check phase, which comes after the poll for connections.
    await nextTurn()
    const now = performance.now()
    if ((!isBusy() && now - startedAt < idleTurnMs) || now > until) return
  }
}

/** Closes the port of a server that has it for itself. Whoever connects later is refused, and may go elsewhere with the same request. */
export async function closePort(server: Server): Promise<void> {
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
  // The port alone, and before anything else: an HTTP server would first close its idle connections, one by one.
  Server.prototype.close.call(server)
}
