import { lookup } from 'node:dns/promises'
import { createServer, type Server } from 'node:net'
import { ConfigError, problemWith } from '../config.ts'

/** Another process has the port. It may give it back, so another start may succeed: not exit code 78. */
export class PortTaken extends Error {}

/** Settings that name a port. */
type PortSetting = 'PORT' | 'AUTH_METRICS_PORT'

/**
 * Resolves HOST to one address. A name may have several, such as localhost with 127.0.0.1 and ::1: on the second
 * Fastify would listen by another server, whose requests would be cut at a shutdown.
 *
 * @throws {ConfigError} when it is neither an address nor a name that has one
 */
export async function resolveHost(host: string): Promise<string> {
  const problem = problemWith('HOST', host)
  if (problem) throw new ConfigError(`HOST: ${problem}`)
  try {
    const addresses = await lookup(host, { all: true })
    const { address } = addresses.find(({ family }) => family === 4) ?? (addresses[0] as { address: string })
    return address
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new ConfigError(
      `HOST: expected an address of this machine, or a name that has one, got ${code} for ${JSON.stringify(host)}`,
    )
  }
}

/**
 * Listens on one address.
 *
 * @param setting named by a failure
 * @returns the origin of the server for a client on this machine
 * @throws {PortTaken}
 * @throws {ConfigError} when the port may not be opened, or the address is not of this machine
 */
export async function listen(server: Server, host: string, port: number, setting: PortSetting): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host, port }, () => {
      server.off('error', reject)
      resolve()
    })
  }).catch((error) => {
    throw explained(error, host, port, setting)
  })
  const bound = server.address() as { address: string; port: number }
  const reachable = { '0.0.0.0': '127.0.0.1', '::': '::1' }[bound.address] ?? bound.address
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${bound.port}`
}

/**
 * Listens on a port for a moment, to find out whether it can be listened on. Connections are accepted meanwhile, and
 * dropped.
 *
 * @returns the port; for 0 one that is free
 * @throws as `listen` does
 */
export async function tryPort(host: string, port: number, setting: PortSetting): Promise<number> {
  const server = createServer()
  const { port: bound } = new URL(await listen(server, host, port, setting))
  await new Promise((resolve) => server.close(resolve))
  return Number(bound || 80)
}

function explained(error: NodeJS.ErrnoException, host: string, port: number, setting: PortSetting): Error {
  if (error.code === 'EADDRINUSE') {
    return new PortTaken(`${setting}: something else listens on port ${port} of ${host}; set ${setting} to another`)
  }
  if (error.code === 'EACCES') {
    return new ConfigError(
      `${setting}: expected a port that this user may listen on, got ${port}; those below 1024 take more rights`,
    )
  }
  if (error.code === 'EADDRNOTAVAIL') return new ConfigError(`HOST: expected an address of this machine, got ${host}`)
  return new ConfigError(
    `${setting}: expected a port that can be listened on, got ${error.code ?? error.message} for ${port} of ${host}`,
  )
}
