/* Load over HTTP, as clients of the service make it. */
import { setTimeout as sleep } from 'node:timers/promises'
import autocannon from 'autocannon'
import { asForm, form, type Tokens } from './client.ts'

export * from './client.ts'

const settleMs = 500

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
