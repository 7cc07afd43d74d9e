/* What is sent to the service: single calls, and loads of them for the generator. */
import type { LoadResult } from './generator.ts'
import { cpuSeconds } from './meter.ts'
import { startRemote } from './processes.ts'
import type { Case } from './rounds.ts'
import type { Server } from './service.ts'

export const password = 'correct horse battery staple'
const form = { 'content-type': 'application/x-www-form-urlencoded' }
export const json = { 'content-type': 'application/json' }

export interface Tokens {
  access_token: string
  refresh_token: string
}

export const bearer = (tokens: Tokens) => ({ authorization: `Bearer ${tokens.access_token}` })
export const refreshBody = (refreshToken: string) => `grant_type=refresh_token&refresh_token=${refreshToken}`

/** Sends one request. @throws when the status is another than expected */
export async function call(url: string, expected: number, init: RequestInit = {}): Promise<string> {
  const response = await fetch(url, init)
  const text = await response.text()
  if (response.status !== expected) throw new Error(`${new URL(url).pathname}: ${response.status} ${text}`)
  return text
}

export async function signUp(origin: string, username: string): Promise<void> {
  const body = JSON.stringify({ username, password })
  await call(`${origin}/signup`, 201, { method: 'POST', headers: json, body })
}

export async function logIn(origin: string, username: string, ownPassword = password): Promise<Tokens> {
  const body = new URLSearchParams({ username, password: ownPassword })
  return JSON.parse(await call(`${origin}/token`, 200, { method: 'POST', body }))
}

/** Replaces the tokens by the new ones. */
export async function refresh(origin: string, tokens: Tokens): Promise<void> {
  const init = { method: 'POST', headers: form, body: refreshBody(tokens.refresh_token) }
  Object.assign(tokens, JSON.parse(await call(`${origin}/token`, 200, init)))
}

export const logOut = (origin: string, tokens: Tokens): Promise<string> =>
  call(`${origin}/logout`, 204, { method: 'POST', headers: bearer(tokens) })

let signups = 0
/** The body that follows an answer; the same again where there is none. */
export const nextBodies = {
  refresh(answer: string) {
    const token = /"refresh_token":"([^"]+)"/.exec(answer)?.[1]
    return token && refreshBody(token)
  },
  signup: () => JSON.stringify({ username: `new-${process.pid}-${signups++}`, password }),
} satisfies Record<string, (answer: string) => string | undefined>

export interface Load {
  method: 'GET' | 'POST'
  path: string
  /** one for each connection */
  requests: { headers: Record<string, string>; body?: string }[]
  /** the right status */
  expected: number
  next?: keyof typeof nextBodies
}

export const formLoad = (path: string, bodies: string[], headers: Record<string, string> = {}): Load => ({
  method: 'POST',
  path,
  requests: bodies.map((body) => ({ headers: { ...form, ...headers }, body })),
  expected: 200,
})

export const loginLoad = (users: string[], ownPassword = password): Load =>
  formLoad(
    '/token',
    users.map((username) => `${new URLSearchParams({ grant_type: 'password', username, password: ownPassword })}`),
  )

/** Each connection refreshes a session of its own, always with the token of the answer before. */
export const refreshLoad = (sessions: Tokens[]): Load => ({
  ...formLoad(
    '/token',
    sessions.map(({ refresh_token }) => refreshBody(refresh_token)),
  ),
  next: 'refresh',
})

export const signupLoad = (connections: number): Load => ({
  method: 'POST',
  path: '/signup',
  requests: Array.from({ length: connections }, () => ({ headers: json, body: nextBodies.signup() })),
  expected: 201,
  next: 'signup',
})

/** Each connection sends the access token of its own session. */
export const bearerLoad = (path: string, sessions: Tokens[], expected = 200): Load => ({
  method: 'GET',
  path,
  requests: sessions.map((tokens) => ({ headers: bearer(tokens) })),
  expected,
})

/** Share of one core; above it the generator is what was measured. */
const generatorLimit = 0.95

/**
 * @param onNote takes what the reader of the figures should know
 * @returns a function that makes a case of a load on a server; each run goes on with the bodies of the one before,
 * which it keeps in the load
 */
export function createLoader(onNote: (text: string) => void) {
  const generator = startRemote('./generator.js')
  return (title: string, server: Server, load: Load, onAnswer = (_bytes: number) => {}): Case => ({
    title,
    async run(seconds) {
      const { origin, pid } = server
      const cpuBefore = cpuSeconds(pid)
      const result = await generator.call<LoadResult>('generate', { ...load, origin, seconds })
      const cpuAfter = cpuSeconds(pid)
      const { bodies, answers, answerBytes, generatorBusy, ...measured } = result
      for (const [index, body] of bodies.entries()) Object.assign(load.requests[index] as object, { body })
      onAnswer(answerBytes)
      if (measured.wrong !== undefined) onNote(`${title}: the first answer that was wrong: ${measured.wrong}`)
      if (generatorBusy > generatorLimit)
        onNote(`The load generator was busy all the time with "${title}": what it called could have answered more.`)
      if (cpuBefore === undefined || cpuAfter === undefined) return measured
      return { ...measured, cpuUs: ((cpuAfter - cpuBefore) * 1e6) / Math.max(1, answers) }
    },
  })
}
