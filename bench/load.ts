/* Load over HTTP, as clients of the service make it. */
import { setTimeout as sleep } from 'node:timers/promises'
import autocannon from 'autocannon'

export const form = { 'content-type': 'application/x-www-form-urlencoded' }
export const password = 'correct horse battery staple'

const settleMs = 500

export interface Tokens {
  access_token: string
  refresh_token: string
}

export interface Measured {
  perSecond: number
  p50Ms: number
  p99Ms: number
  errors: number
}

export async function measure(options: autocannon.Options): Promise<Measured> {
  const result = await autocannon(options)
  // What was under way when the time was up still reaches the store. It must not come after the session's next refreshes,
  // which the next load sends: the store would take it for a stolen token.
  await sleep(settleMs)
  return {
    perSecond: Math.round(result.requests.average),
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
    errors: result.errors + result.non2xx,
  }
}

export async function signUp(url: string, username: string): Promise<void> {
  const response = await fetch(`${url}/signup`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ username, password }),
  })
  if (response.status !== 201) throw new Error(`signup: ${response.status} ${await response.text()}`)
}

export async function logIn(url: string, username: string): Promise<Tokens> {
  const response = await fetch(`${url}/token`, { method: 'POST', body: new URLSearchParams({ username, password }) })
  if (response.status !== 200) throw new Error(`login: ${response.status} ${await response.text()}`)
  return (await response.json()) as Tokens
}

export async function refresh(url: string, tokens: Tokens): Promise<void> {
  const response = await fetch(`${url}/token`, { method: 'POST', headers: form, body: asForm(tokens.refresh_token) })
  if (response.status !== 200) throw new Error(`refresh: ${response.status} ${await response.text()}`)
  Object.assign(tokens, await response.json())
}

export const bearer = (tokens: Tokens) => ({ authorization: `Bearer ${tokens.access_token}` })

export const asForm = (refreshToken: string) => `grant_type=refresh_token&refresh_token=${refreshToken}`

/** Each connection refreshes a session of its own, always with the token of the answer before, which is kept in `sessions`. */
export function refreshing(url: string, sessions: Tokens[]): autocannon.Options {
  let next = 0
  return {
    url: `${url}/token`,
    method: 'POST',
    headers: form,
    connections: sessions.length,
    setupClient(client) {
      const tokens = sessions[next++ % sessions.length] as Tokens
      client.setBody(asForm(tokens.refresh_token))
      client.on('body', (body: Buffer) => {
        const token = /"refresh_token":"([^"]+)"/.exec(body.toString())?.[1]
        if (!token) return
        tokens.refresh_token = token
        client.setBody(asForm(token))
      })
    },
  }
}
