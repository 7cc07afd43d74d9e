import { createServer } from 'node:net'
import { buildApp } from './app.ts'
import { ConfigError, readConfig } from './config.ts'
import { StoreUnavailable } from './stores/store.ts'

/** EX_CONFIG of sysexits.h */
const badConfigExitCode = 78
/** Left of the grace, when connections that do not end are cut, for the store to close. */
const closingReserveMs = 500
const idleCheckMs = 50

main().catch((error: NodeJS.ErrnoException) => {
  if (error instanceof ConfigError) fail(error.message, badConfigExitCode)
  if (error instanceof StoreUnavailable) fail(`DATABASE_URL: the database cannot be reached: ${(error.cause as Error)?.message}`, 1)
  if (error.code === 'EADDRINUSE') fail(`PORT: something else listens there (${error.message}); set PORT to another`, 1)
  fail(`Latchkey could not start: ${error.message}`, 1)
})

function fail(line: string, exitCode: number): never {
  process.stderr.write(`${line}\n`)
  process.exit(exitCode)
}

async function main(): Promise<void> {
  // The issuer names the port, and is fixed before the first token is made.
  const env = { ...process.env }
  if (env['PORT'] === '0') env['PORT'] = String(await freePort(env['HOST']))
  const config = readConfig(env)
  const app = await buildApp(config)
  for (const warning of config.warnings) app.log.warn(warning)

  let isStopping = false
  const stop = async (signal: NodeJS.Signals) => {
    if (isStopping) return
    isStopping = true
    app.log.info({ signal }, 'shutting down: requests in flight are finished first')
    setTimeout(() => app.server.closeAllConnections(), config.AUTH_SHUTDOWN_GRACE * 1000 - closingReserveMs).unref()
    // A connection whose last answer is on its way becomes idle only later, and would be kept for the next request.
    setInterval(() => app.server.closeIdleConnections(), idleCheckMs).unref()
    await app.close()
    process.exit(0)
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)

  const address = await app.listen({ host: config.HOST, port: config.PORT })
  app.log.info(
    {
      address,
      store: app.store.name,
      ...(!config.DATABASE_URL && { data_dir: config.AUTH_DATA_DIR }),
      issuer: config.AUTH_ISSUER,
      alg: config.AUTH_SIGNING_ALG,
      argon2: app.hashing.build,
    },
    `Latchkey listens on ${address}, on ${app.store.name === 'pg' ? 'PostgreSQL' : 'LMDB'}`,
  )
}

function freePort(host: string | undefined): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, host || '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}
