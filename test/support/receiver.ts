import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Webhook } from 'standardwebhooks'
import { newDir, type Scope } from './basics.ts'

/** An event as a receiver gets it. */
export interface Received {
  id: string
  type: string
  // biome-ignore lint/suspicious/noExplicitAny: what it holds is the test's to say
  data: any
  path: string
  headers: IncomingHttpHeaders
}

/** A receiver of webhooks. What it got was checked by the library of Standard Webhooks. */
export interface Receiver {
  url: string
  secret: string
  /** each that came, also those that were not taken */
  received: Received[]
  /** Answers from now on: a status, or what is to be done with the response. */
  answer: number | ((received: Received, response: ServerResponse) => void)
  /** what came and was not signed as it should be */
  forged: string[]
}

export const newWebhookSecret = () => `whsec_${randomBytes(32).toString('base64')}`

export async function startReceiver(t: Scope, secret = newWebhookSecret()): Promise<Receiver> {
  const webhook = new Webhook(secret)
  const receiver: Receiver = { url: '', secret, received: [], answer: 204, forged: [] }
  const server = createServer(async (request, response) => {
    let body = ''
    request.setEncoding('utf8')
    for await (const chunk of request) body += chunk
    const { headers, url: path = '' } = request
    const id = String(headers['webhook-id'])
    // `verify` compares the time as well, which is that of the clock of the app.
    const signature = webhook.sign(id, new Date(Number(headers['webhook-timestamp']) * 1000), body)
    if (!String(headers['webhook-signature']).split(' ').includes(signature)) {
      receiver.forged.push(body)
      return void response.writeHead(400).end()
    }
    const got: Received = { id, ...JSON.parse(body), path, headers }
    receiver.received.push(got)
    if (typeof receiver.answer === 'number') response.writeHead(receiver.answer).end()
    else receiver.answer(got, response)
  }).listen(0, '127.0.0.1')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  await new Promise((resolve) => server.once('listening', resolve))
  receiver.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`
  return receiver
}

/** The settings for some endpoints on the loopback. */
export async function webhookSettings(t: Scope, endpoints: object[]): Promise<Record<string, string>> {
  const path = join(await newDir(t), 'webhooks.json')
  await writeFile(path, JSON.stringify(endpoints))
  return { AUTH_WEBHOOKS_FILE: path, AUTH_FETCH_ALLOW: '127.0.0.1' }
}
