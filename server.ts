import { type Config, ConfigError, readConfig, Settings } from './config.ts'
import { logEvent } from './events.ts'
import { wantsTraces } from './log/traced.ts'
import { closePort, drainAndClose, type Hold, openSockets } from './process/drain.ts'
import { listen, PortTaken, resolveHost, tryPort } from './process/listening.ts'
import { keepNewSpaceSmall } from './process/new-space.ts'
import { onSignals, shuttingDown } from './process/signals.ts'
import { type Vouching, vouchForStore } from './stores/lmdb/vouch.ts'
import { chosenStore, isMissing } from './stores/open.ts'
import { StoreTooOld, StoreUnavailable } from './stores/store.ts'

/** EX_CONFIG of sysexits.h */
const badConfigExitCode = 78
/** EX_UNAVAILABLE */
const storeBrokenExitCode = 69
const lastAnswersMs = 100

/** The longest that the last spans may take to be sent, and what is left of AUTH_SHUTDOWN_GRACE then. */
const flushMs = 1_000
const flushReserveMs = 200

/** Set in a worker process, from 1. */
const isWorker = process.argv[2] === 'worker' && process.send !== undefined
let primary: ReturnType<typeof import('./cluster/worker.ts').joinPrimary> | undefined

main().catch(async (error: NodeJS.ErrnoException) => {
  const line = reasonOf(error)
  const exitCode = error instanceof ConfigError ? badConfigExitCode : 1
  if (primary) await primary.failed({ line, exitCode })
  else process.stderr.write(`${line}\n`)
  process.exit(exitCode)
})

function reasonOf(error: NodeJS.ErrnoException): string {
  if (error instanceof ConfigError || error instanceof PortTaken) return error.message
  if (error instanceof StoreUnavailable) return error.reason
  return `Latchkey could not start: ${error.message}`
}

async function main(): Promise<void> {
  if (isWorker) primary = (await import('./cluster/worker.ts')).joinPrimary()
  // A name is looked up once, and the issuer names the port: both are settled before the first token is made.
  const host = await resolveHost(process.env['HOST'] || String(Settings.properties.HOST.default))
  const port = process.env['PORT'] === '0' ? String(await tryPort(host, 0, 'PORT')) : process.env['PORT']
  const config = readConfig({ ...process.env, HOST: host, PORT: port })
  if (primary) return serve(config)
  const location = chosenStore(config)
  if (isMissing(location)) await tryPorts(config)
  const vouching = location.kind === 'lmdb' ? vouchForStore(location.dir) : undefined
  if (config.AUTH_WORKERS === 1) return serve(config, vouching)

  await vouching?.soon
  const { runPrimary } = await import('./cluster/primary.ts')
  const { exitCode, line } = await runPrimary(config, vouching?.later)
  if (line !== undefined) process.stderr.write(`${line}\n`)
  process.exit(exitCode)
}

/**
 * Before a store is made, so that a port that is taken leaves none behind. (Not beside a store: its clients would
 * connect here.)
 */
async function tryPorts({ HOST, PORT, AUTH_METRICS_PORT }: Config): Promise<void> {
  await tryPort(HOST, PORT, 'PORT')
  if (AUTH_METRICS_PORT) await tryPort(HOST, AUTH_METRICS_PORT, 'AUTH_METRICS_PORT')
}

async function serve(config: Config, vouching?: Vouching): Promise<void> {
  const letNewSpaceGrow = keepNewSpaceSmall()
  // Loaded here, because a primary needs none of it.
  const [{ buildApp }, { stdoutInBlocks }] = await Promise.all([
    import('./app.ts'),
    import('./log/destination.ts'),
    vouching?.soon,
  ])
  const problems: string[] = []
  let warn = (line: string) => {
    problems.push(line)
  }
  const tracing = wantsTraces(process.env)
    ? (await import('./process/tracing.ts')).startTracing((line) => warn(line))
    : undefined
  const logStream = await stdoutInBlocks()
  const build = () => buildApp(config, { logStream, tracing })
  const app = await build().catch(async (error) => {
    if (!(error instanceof StoreTooOld)) throw error
    // Every row is going to be read, and a damaged page would end the process by a signal.
    const damage = await vouching?.later
    if (damage !== undefined) throw new ConfigError(damage)
    await (await import('./process/upgrading.ts')).upgradeStore(config, logStream)
    return build()
  })
  warn = (line) => app.log.warn(line)
  for (const warning of [...(primary ? [] : config.warnings), ...problems]) warn(warning)

  const sockets = openSockets(app.server)
  let closeMetrics = async () => {}
  onSignals(async (signal) => {
    const endsAtMs = performance.now() + config.AUTH_SHUTDOWN_GRACE.ms
    if (!primary) app.log.info({ signal }, shuttingDown)
    const stopAccepting = (hold: Hold) => (primary ? primary.drained(app.server, hold) : closePort(app.server, hold))
    await drainAndClose(app, sockets, config.AUTH_SHUTDOWN_GRACE.ms, stopAccepting)
    await closeMetrics()
    await tracing?.end(Math.max(0, Math.min(flushMs, endsAtMs - performance.now() - flushReserveMs)))
    process.exit(0)
  }, primary !== undefined)

  vouching?.later.then(async (line) => {
    if (line === undefined) return
    logEvent(app.log, 'store.damaged', {}, line)
    await app.close()
    process.exit(badConfigExitCode)
  })

  app.store.broken?.then((line) => {
    logEvent(app.log, 'store.broken', {}, line)
    // Those who wait for the commit that failed have their 503 by then.
    setTimeout(() => process.exit(storeBrokenExitCode), lastAnswersMs)
  })

  await primary?.join(app)
  const { metrics } = app
  async function listenOnPorts(): Promise<string> {
    if (!primary && metrics) {
      const { serveMetrics } = await import('./process/metrics-port.ts')
      closeMetrics = await serveMetrics(config, app.log, metrics.text)
    }
    return listen(app.server, config.HOST, config.PORT, 'PORT')
  }
  const address = await listenOnPorts().catch(async (error) => {
    // A process that ends while it writes has to be killed, see stores/lmdb/transactions.ts, and has no exit code.
    await app.close()
    throw error
  })
  letNewSpaceGrow()
  const details = {
    address,
    store: app.store.name,
    ...(!config.DATABASE_URL && { data_dir: config.AUTH_DATA_DIR }),
    issuer: config.AUTH_ISSUER,
    alg: config.AUTH_SIGNING_ALG,
    argon2: app.hashing.build,
    ...(app.passkeys.whyOff !== undefined && { passkeys: `off: ${app.passkeys.whyOff}` }),
  }
  const newStore = app.store.isNew ? ': a new, empty store' : ''
  const message = `Latchkey listens on ${address}, on ${app.store.product}${newStore}`
  if (primary) primary.listening({ details, message })
  else app.log.info(details, message)
}
