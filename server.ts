import { createServer } from 'node:net'
import { type Config, ConfigError, readConfig } from './config.ts'
import { StoreUnavailable } from './stores/store.ts'

/** EX_CONFIG of sysexits.h */
const badConfigExitCode = 78
/** Left of the grace, when connections that do not end are cut, for the store to close. */
const closingReserveMs = 500
const idleCheckMs = 50

/** What `workers.ts` starts has a number, from 1. One process alone loads none of that. */
const workerNumber = process.argv[2] === 'worker' && process.send ? Number(process.argv[3]) : undefined
const primary = workerNumber === undefined ? undefined : (await import('./workers.ts')).joinPrimary(workerNumber)

main().catch(async (error: NodeJS.ErrnoException) => {
  const line = reasonOf(error)
  const exitCode = error instanceof ConfigError ? badConfigExitCode : 1
  if (primary) await primary.failed({ line, exitCode })
  else process.stderr.write(`${line}\n`)
  process.exit(exitCode)
})

function reasonOf(error: NodeJS.ErrnoException): string {
  if (error instanceof ConfigError) return error.message
  if (error instanceof StoreUnavailable) return `DATABASE_URL: the database cannot be reached: ${(error.cause as Error)?.message}`
  if (error.code === 'EADDRINUSE') return `PORT: something else listens there (${error.message}); set PORT to another`
  return `Latchkey could not start: ${error.message}`
}

async function main(): Promise<void> {
  // The issuer names the port, and is fixed before the first token is made.
  const env = { ...process.env }
  if (env['PORT'] === '0') env['PORT'] = String(await freePort(env['HOST']))
  const config = readConfig(env)
  if (primary || config.AUTH_WORKERS === 1) return serve(config)

  const { runWorkers } = await import('./workers.ts')
  const { exitCode, line } = await runWorkers(config, env)
  if (line !== undefined) process.stderr.write(`${line}\n`)
  process.exit(exitCode)
}

async function serve(config: Config): Promise<void> {
  // Only now: a primary does without all of it.
  const [{ buildApp }, { stdoutInBlocks }] = await Promise.all([import('./app.ts'), import('./logging.ts')])
  const app = await buildApp(config, { logStream: stdoutInBlocks() })
  if (!primary) for (const warning of config.warnings) app.log.warn(warning)

  let isStopping = false
  const stop = async (signal: NodeJS.Signals) => {
    if (isStopping) return
    isStopping = true
    if (!primary) app.log.info({ signal }, 'shutting down: requests in flight are finished first')
    setTimeout(() => app.server.closeAllConnections(), config.AUTH_SHUTDOWN_GRACE * 1000 - closingReserveMs).unref()
    // A connection whose last answer is on its way becomes idle only later, and would be kept for the next request.
    setInterval(() => app.server.closeIdleConnections(), idleCheckMs).unref()
    await app.close()
    process.exit(0)
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)

  await primary?.join(app)
  /** Fastify's own line, which it writes when this has returned: not from every worker. */
  const withoutLine = () => {
    app.log.level = 'silent'
    queueMicrotask(() => {
      app.log.level = config.LOG_LEVEL
    })
    return ''
  }
  const address = await app.listen({ host: config.HOST, port: config.PORT, ...(primary && { listenTextResolver: withoutLine }) })
  const details = {
    address,
    store: app.store.name,
    ...(!config.DATABASE_URL && { data_dir: config.AUTH_DATA_DIR }),
    issuer: config.AUTH_ISSUER,
    alg: config.AUTH_SIGNING_ALG,
    argon2: app.hashing.build,
  }
  const message = `Latchkey listens on ${address}, on ${app.store.name === 'pg' ? 'PostgreSQL' : 'LMDB'}`
  if (primary) primary.listens({ details, message })
  else app.log.info(details, message)
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
