import { type Config, ConfigError, readConfig, Settings } from './config.ts'
import { closePort, drainAndClose, openSockets } from './process/drain.ts'
import { listen, PortTaken, resolveHost, tryPort } from './process/listening.ts'
import { onSignals, shuttingDown } from './process/signals.ts'
import { hasLmdbStore } from './stores/lmdb/file.ts'
import { type Vouching, vouchForStore } from './stores/lmdb/vouch.ts'
import { StoreUnavailable } from './stores/store.ts'

/** EX_CONFIG of sysexits.h */
const badConfigExitCode = 78

/** What `cluster/workers.ts` starts has a number, from 1. One process alone loads none of that. */
const workerNumber = process.argv[2] === 'worker' && process.send ? Number(process.argv[3]) : undefined
const primary =
  workerNumber === undefined ? undefined : (await import('./cluster/workers.ts')).joinPrimary(workerNumber)

main().catch(async (error: NodeJS.ErrnoException) => {
  const line = reasonOf(error)
  const exitCode = error instanceof ConfigError ? badConfigExitCode : 1
  if (primary) await primary.failed({ line, exitCode })
  else process.stderr.write(`${line}\n`)
  process.exit(exitCode)
})

function reasonOf(error: NodeJS.ErrnoException): string {
  if (error instanceof ConfigError || error instanceof PortTaken) return error.message
  if (error instanceof StoreUnavailable)
    return `DATABASE_URL: the database cannot be reached: ${(error.cause as Error)?.message}`
  return `Latchkey could not start: ${error.message}`
}

async function main(): Promise<void> {
  // A name is looked up once, and the issuer names the port: both are settled before the first token is made.
  const host = await resolveHost(process.env['HOST'] || String(Settings.properties.HOST.default))
  const port = process.env['PORT'] === '0' ? String(await tryPort(host, 0, 'PORT')) : process.env['PORT']
  const env = { ...process.env, HOST: host, PORT: port }
  const config = readConfig(env)
  if (primary) return serve(config)
  if (!config.DATABASE_URL && !hasLmdbStore(config.AUTH_DATA_DIR)) await tryPorts(config)
  const vouching = config.DATABASE_URL ? undefined : vouchForStore(config.AUTH_DATA_DIR)
  if (config.AUTH_WORKERS === 1) return serve(config, vouching)

  await vouching?.soon
  const { runWorkers } = await import('./cluster/workers.ts')
  const { exitCode, line } = await runWorkers(config, vouching?.later)
  if (line !== undefined) process.stderr.write(`${line}\n`)
  process.exit(exitCode)
}

/** A port that is taken should not leave a new store behind. (Where there is one, no client is to be connected for a moment.) */
async function tryPorts({ HOST, PORT, AUTH_METRICS_PORT }: Config): Promise<void> {
  await tryPort(HOST, PORT, 'PORT')
  if (AUTH_METRICS_PORT) await tryPort(HOST, AUTH_METRICS_PORT, 'AUTH_METRICS_PORT')
}

async function serve(config: Config, vouching?: Vouching): Promise<void> {
  // Only now: a primary does without all of it.
  const [{ buildApp }, { stdoutInBlocks }] = await Promise.all([
    import('./app.ts'),
    import('./log/logging.ts'),
    vouching?.soon,
  ])
  const app = await buildApp(config, { logStream: await stdoutInBlocks() })
  if (!primary) for (const warning of config.warnings) app.log.warn(warning)

  const sockets = openSockets(app.server)
  onSignals((signal) => {
    if (!primary) app.log.info({ signal }, shuttingDown)
    const stopAccepting = async () => (primary ? primary.drained(app.server) : closePort(app.server))
    drainAndClose(app, sockets, config.AUTH_SHUTDOWN_GRACE.ms, stopAccepting).then(() => process.exit(0))
  }, primary !== undefined)

  vouching?.later.then(async (line) => {
    if (line === undefined) return
    app.log.error({ event: 'store.damaged' }, line)
    await app.close()
    process.exit(badConfigExitCode)
  })

  await primary?.join(app)
  if (!primary) await app.metrics?.serve()
  const address = await listen(app.server, config.HOST, config.PORT, 'PORT')
  const details = {
    address,
    store: app.store.name,
    ...(!config.DATABASE_URL && { data_dir: config.AUTH_DATA_DIR }),
    issuer: config.AUTH_ISSUER,
    alg: config.AUTH_SIGNING_ALG,
    argon2: app.hashing.build,
  }
  const ofStore = app.store.isNew ? ': a new, empty store' : ''
  const message = `Latchkey listens on ${address}, on ${app.store.name === 'pg' ? 'PostgreSQL' : 'LMDB'}${ofStore}`
  if (primary) primary.listens({ details, message })
  else app.log.info(details, message)
}
