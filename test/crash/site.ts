import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { cheapHashing, type Scope } from '../support/basics.ts'
import { type Running, runProgram } from '../support/running.ts'
import { browserApp } from './browser-user.ts'
import { type Answer, type Call, type Calls, callsTo } from './call.ts'
import type { Ledger } from './ledger.ts'

/** The administrator's client, declared in AUTH_CLIENTS_FILE. */
const operator = { id: 'operator', secret: 'a secret of the operator, and no other' }

/** Longest time to be ready again, with nobody doing anything about it. */
const readyWithinMs = 60_000
/** Starts, one after the other, as a supervisor makes them. */
const startsAtMost = 5

export type StoreName = 'lmdb' | 'postgres'

/** A service in a directory of its own, which is killed and started again on what it has written. */
export interface Site {
  readonly settings: Record<string, string>
  readonly running: Running | undefined
  /** Of the process that runs now. */
  call: Calls
  /** The same as an administrator. */
  admin(path: string, call?: Call): Promise<Answer>
  /** Starts it, with other settings than before where some are given. @returns milliseconds until it was ready */
  start(changed?: Record<string, string>): Promise<number>
  /** milliseconds that the last start took */
  readonly startMs: number
  /** Starts it and does not wait. */
  launch(): Promise<Running>
  /** @returns milliseconds until it says that it is ready */
  ready(): Promise<number>
  /** kill -9 */
  kill(): Promise<void>
}

/** @param dir an empty directory @param place where the data is, as settings */
export function createSite(t: Scope, dir: string, place: Record<string, string>, ledger: Ledger): Site {
  const clientsFile = join(dir, 'clients.json')
  const { id: client_id, secret: client_secret } = operator
  writeFileSync(clientsFile, JSON.stringify([{ client_id, client_secret, scopes: ['admin'] }, browserApp]), {
    mode: 0o600,
  })
  let settings: Record<string, string> = {
    ...cheapHashing,
    AUTH_ISSUER: 'http://auth.example',
    AUTH_CLIENTS_FILE: clientsFile,
    // Longer than the run: what is refused is revoked, and has not expired.
    AUTH_ACCESS_TTL: '1d',
    ...place,
  }
  let running: Running | undefined
  let startMs = 700
  let connection: ReturnType<typeof callsTo> | undefined
  let adminToken: Promise<string> | undefined

  const call: Calls = (path, options) => {
    if (!connection) throw new Error('the service has not been started')
    return connection.call(path, options)
  }
  async function logIn(): Promise<string> {
    const { body } = await call('/token', {
      form: { grant_type: 'client_credentials', scope: 'admin' },
      client: operator,
    })
    return body.access_token
  }
  async function admin(path: string, options: Call = {}): Promise<Answer> {
    adminToken ??= logIn()
    const used = adminToken
    try {
      const answer = await call(path, { ...options, token: await used })
      if (answer.status !== 401) return answer
    } catch (error) {
      // It may have been the login that failed.
      if (adminToken === used) adminToken = undefined
      throw error
    }
    // Refused with all others, after a leak.
    if (adminToken === used) adminToken = undefined
    adminToken ??= logIn()
    return call(path, { ...options, token: await adminToken })
  }

  /** @returns its origin */
  async function listens(): Promise<string> {
    for (let starts = 1; ; starts++) {
      const { listening, output } = await site.launch()
      try {
        return await listening()
      } catch (error) {
        if (starts === startsAtMost || !output.stderr.includes('the database cannot be reached')) throw error
        ledger.startsRepeated += 1
      }
    }
  }

  const site: Site = {
    get settings() {
      return settings
    },
    get running() {
      return running
    },
    get startMs() {
      return startMs
    },
    call,
    admin,
    async launch() {
      running = await runProgram(t, settings, { cwd: dir })
      return running
    },
    async start(changed = {}) {
      settings = { ...settings, ...changed }
      const startedAt = performance.now()
      connection?.close()
      connection = callsTo(await listens())
      adminToken = undefined
      await site.ready()
      startMs = performance.now() - startedAt
      return startMs
    },
    async ready() {
      const startedAt = performance.now()
      for (;;) {
        const isReady = await call('/readyz').then(
          ({ status }) => status === 200,
          () => false,
        )
        const ms = performance.now() - startedAt
        if (isReady) return ms
        if (ms > readyWithinMs) throw new Error(`not ready after ${readyWithinMs} ms`)
        await sleep(10)
      }
    },
    async kill() {
      const child = running?.child
      if (!child || child.exitCode !== null || child.signalCode !== null) return
      // Not the end of what it writes, which is that of its workers too.
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    },
  }
  return site
}

/** All processes of the machine that run. */
export function processes(): { pid: number; parent: number }[] {
  const table = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,stat='], { encoding: 'utf8' })
  return table
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/ +/))
    .filter(([, , state]) => !state?.startsWith('Z'))
    .map(([pid, parent]) => ({ pid: Number(pid), parent: Number(parent) }))
}
