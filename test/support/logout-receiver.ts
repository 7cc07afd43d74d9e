import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Scope } from './basics.ts'

/** What an app was told, OpenID Connect Back-Channel Logout 1.0 §2.5. */
export interface ToldLogout {
  path: string
  headers: IncomingHttpHeaders
  token: string
  // biome-ignore lint/suspicious/noExplicitAny: what it holds is the test's to say
  claims: any
}

/** An app that is told of logouts at any path of its. */
export interface LogoutReceiver {
  origin: string
  told: ToldLogout[]
  /** what came that was no logout token in a form */
  others: string[]
  /** Answers from now on: a status, or what is to be done with the response. */
  answer: number | ((told: ToldLogout, response: ServerResponse) => void)
  sidsTold(): string[]
}

export async function startLogoutReceiver(t: Scope): Promise<LogoutReceiver> {
  const told: ToldLogout[] = []
  const others: string[] = []
  const server = createServer(async (request, response) => {
    const { method, url: path = '', headers } = request
    let body = ''
    for await (const chunk of request) body += chunk
    const token = new URLSearchParams(body).get('logout_token')
    const isForm = headers['content-type'] === 'application/x-www-form-urlencoded'
    if (method !== 'POST' || !isForm || token === null) {
      others.push(`${method} ${path}`)
      return void response.writeHead(400).end()
    }
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
    const one = { path, headers, token, claims }
    told.push(one)
    if (typeof receiver.answer === 'number') response.writeHead(receiver.answer).end()
    else receiver.answer(one, response)
  }).listen(0, '127.0.0.1')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  await new Promise((resolve) => server.once('listening', resolve))
  const receiver: LogoutReceiver = {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    told,
    others,
    answer: 200,
    sidsTold: () => told.map(({ claims }) => claims.sid).sort(),
  }
  return receiver
}
