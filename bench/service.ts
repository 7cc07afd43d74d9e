/* A service of the built program, with users who are logged in. */
import { spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { logIn, password, signUp, type Tokens } from './load.ts'
import { inFlight, residentMB } from './meter.ts'
import { onEnd, stop } from './processes.ts'

export interface Server {
  origin: string
  /** undefined where somebody else started it */
  pid: number | undefined
}

export interface Service extends Server {
  /** one for each connection */
  sessions: Tokens[]
  users: string[]
  password: string
}

const startTimeoutMs = 30_000
const pollMs = 5
const ownProgram = fileURLToPath(new URL('../start.cjs', import.meta.url))

/** Settings as shipped, but for what a bench needs; hashing, signing and logging come from the environment. */
export const benchSettings = {
  ...{ HOST: '127.0.0.1', PORT: '0', AUTH_METRICS_PORT: '', AUTH_ISSUER: '', AUTH_AUDIENCE: '' },
  ...{ DATABASE_URL: '', DATABASE_URL_FILE: '', AUTH_SECRET: '', AUTH_SECRET_FILE: '', AUTH_SECRET_PREVIOUS: '' },
  ...{ AUTH_SIGNUP: 'open', AUTH_PASSWORD_GRANT: 'on', AUTH_PASSWORD_MIN: '15' },
  // Nobody is told of what a bench does.
  ...{ AUTH_WEBHOOKS_FILE: '', AUTH_EMAIL: 'optional', AUTH_MAIL_FROM: '', AUTH_MAIL_DIR: '', AUTH_MAIL_WEBHOOK: '' },
  ...{ AUTH_SMTP_URL: '', AUTH_SMTP_URL_FILE: '' },
  // Many logins wait for a hash, and all are answered; and a long run outlives the tokens of its start.
  AUTH_HASH_MAX_WAIT: '60s',
  AUTH_ACCESS_TTL: '1d',
}

/** @returns the path of a new AUTH_CLIENTS_FILE */
export function writeClients(dir: string, clients: object[]): string {
  const path = join(dir, 'clients.json')
  writeFileSync(path, JSON.stringify(clients), { mode: 0o600 })
  return path
}

/** Starts a service on a store in `dir`, or on a database, with a user and a session for each connection. */
export async function startService(
  dir: string,
  name: string,
  settings: Record<string, string>,
  connections: number,
  program?: string,
) {
  const env = { AUTH_DATA_DIR: join(dir, name), ...settings }
  const server = await startServer(env, join(dir, `${name}.log`), program)
  const idleMB = residentMB(server.pid, 'VmRSS')
  const users = Array.from({ length: connections }, (_, n) => `user-${n}`)
  await inFlight(connections, availableParallelism(), (n) => signUp(server.origin, users[n] as string))
  return { ...server, idleMB, users, password, sessions: await logInAll(server.origin, users) }
}

/** @returns a session for each of the names */
export const logInAll = (origin: string, users: string[], ownPassword?: string): Promise<Tokens[]> =>
  inFlight(users.length, availableParallelism(), (n) => logIn(origin, users[n] as string, ownPassword))

/**
 * Starts the service as `npm start` does, its log in a file, and waits until it listens.
 *
 * @param settings beside those of the environment
 * @param program `start.cjs` of another build than this one
 * @throws with the last line of its log when it ends before
 */
export async function startServer(settings: Record<string, string>, logPath: string, program = ownProgram) {
  if (!existsSync(program)) throw new Error(`The service is not built: there is no ${program}`)
  const log = openSync(logPath, 'a')
  const startedAt = performance.now()
  const env = { ...process.env, ...settings }
  const child = spawn(process.execPath, ['--max-semi-space-size=4', program], { env, stdio: ['ignore', log, log] })
  closeSync(log)
  const end = () => stop(child)
  onEnd(end)
  while (performance.now() - startedAt < startTimeoutMs) {
    const text = readFileSync(logPath, 'utf8')
    const origin = /Latchkey listens on (https?:\/\/[^",\s]+)/.exec(text)?.[1]
    if (origin) return { origin, pid: child.pid as number, readyMs: performance.now() - startedAt, end }
    if (child.exitCode !== null) throw new Error(`The service did not start: ${text.trim().split('\n').at(-1)}`)
    await sleep(pollMs)
  }
  throw new Error(`The service did not start within ${startTimeoutMs / 1000} s`)
}
