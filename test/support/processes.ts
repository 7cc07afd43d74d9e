import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import { cheapHashing, listen, password, type Tokens } from './helper.ts'
import { runProgram } from './running.ts'

export { until } from './basics.ts'
export { type Network, startNetwork } from './network.ts'

/*
 * Replicas as they run: real processes of the built program, and a network between them and their database that can
 * fail.
 */

/** The soak, `npm run test:soak`: the same tests with the numbers that the product is held to. */
export const isLong = process.env['LATCHKEY_LONG'] === '1'

export interface Call {
  method?: string
  /** an access token */
  token?: string
  json?: object
  form?: Record<string, string>
  /** any other body, whose type is among the headers */
  body?: string
  headers?: Record<string, string>
}

export interface Answer {
  status: number
  headers: Headers
  text: string
  /** of a JSON text */
  // biome-ignore lint/suspicious/noExplicitAny: what it holds is the test's to say
  body: any
  /** from sending the request to the end of the answer */
  ms: number
}

/** A service, as clients call it. */
export interface Service {
  readonly origin: string
  /** Sends a request; a POST when it has a body. */
  call(path: string, call?: Call): Promise<Answer>
  signUp(username: string): Promise<Answer>
  tryLogIn(username: string, secret?: string): Promise<Answer>
  /** @throws when it is refused */
  logIn(username: string, secret?: string): Promise<Tokens>
  refresh(refreshToken: string): Promise<Answer>
  /** The status of a route that needs an access token. */
  check(accessToken: string): Promise<number>
  /** every answer so far that was a refusal */
  readonly refusals: Answer[]
}

export interface Replica extends Service {
  readonly pid: number
  /** what it has written to stdout and stderr */
  readonly output: { stdout: string; stderr: string }
}

/** What all replicas of one service have in common. */
export const replicaSettings = (url: string) => ({
  ...cheapHashing,
  DATABASE_URL: url,
  AUTH_SECRET: randomUUID(),
  AUTH_ISSUER: 'http://auth.example',
})

/** Starts the program with these settings and no others, and waits until it listens. @throws when it ends before */
export async function startReplica(t: Test, settings: Record<string, string>): Promise<Replica> {
  const { child, output, listening } = await runProgram(t, settings)
  const origin = await listening()
  return { ...serviceAt(origin), pid: child.pid as number, output }
}

/** Builds the service in this process, on a port of its own, where no fact is about the process. */
export async function startHere(
  t: Test,
  settings: Record<string, string>,
): Promise<Replica & { close(): Promise<unknown> }> {
  const output = { stdout: '', stderr: '' }
  const logStream = {
    write(line: string) {
      output.stdout += line
    },
  }
  const app = await buildApp(readConfig(settings), { logStream })
  t.teardown(() => app.close())
  return { ...serviceAt(await listen(app)), pid: process.pid, output, close: () => app.close() }
}

/** @param origin of a service that listens */
export function serviceAt(origin: string): Service {
  const refusals: Answer[] = []
  async function call(path: string, { method, token, json, form, ...own }: Call = {}): Promise<Answer> {
    const startedAt = performance.now()
    const body = json ? JSON.stringify(json) : form ? new URLSearchParams(form) : own.body
    const response = await fetch(origin + path, {
      method: method ?? (body ? 'POST' : 'GET'),
      headers: {
        ...(json && { 'content-type': 'application/json' }),
        ...(token && { authorization: `Bearer ${token}` }),
        ...own.headers,
      },
      ...(body && { body }),
      signal: AbortSignal.timeout(20_000),
    })
    const text = await response.text()
    const { status, headers } = response
    const isJson = /json/.test(headers.get('content-type') ?? '')
    const answer = {
      status,
      headers,
      text,
      body: isJson ? JSON.parse(text) : undefined,
      ms: performance.now() - startedAt,
    }
    if (status >= 400) refusals.push(answer)
    return answer
  }
  const tryLogIn = (username: string, secret = password) => call('/token', { form: { username, password: secret } })

  return {
    origin,
    refusals,
    call,
    signUp: (username) => call('/signup', { json: { username, password } }),
    tryLogIn,
    async logIn(username, secret) {
      const answer = await tryLogIn(username, secret)
      if (answer.status !== 200) throw new Error(`login failed: ${answer.text}`)
      return answer.body
    },
    refresh: (refreshToken) => call('/refresh', { json: { refresh_token: refreshToken } }),
    check: async (accessToken) => (await call('/verify', { token: accessToken })).status,
  }
}

/** @param ms in any order */
export function distribution(ms: number[]) {
  const sorted = ms.map(Math.round).sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number
  return { n: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) }
}
