import { Agent, type IncomingMessage, request } from 'node:http'

/* Calls that tell apart what a ledger has to: answered, perhaps done, never sent. */

export interface Call {
  method?: string
  /** an access token */
  token?: string
  /** of a client, for Basic */
  client?: { id: string; secret: string }
  json?: object
  form?: Record<string, string>
  /** of a browser */
  cookie?: string
}

export interface Answer {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: what it holds is the caller's to say
  body: any
  text: string
  /** where it leads, and what it has a browser keep */
  location: string | undefined
  cookies: string[]
}

/** The connection broke before the answer: what was asked for may have been done. */
export class NoAnswer extends Error {}
/** 503: the store did not answer in time, and may have done it. */
export class Unavailable extends NoAnswer {}
/** Nobody listened: nothing was done. */
export class NotSent extends Error {}

const patienceMs = 60_000

/** @returns calls to an origin, over connections that are kept, and what closes these */
export function callsTo(origin: string) {
  const agent = new Agent({ keepAlive: true })

  /** Sends a request; a POST when it has a body. @throws {NoAnswer} @throws {NotSent} */
  async function call(path: string, { method, token, client, json, form, cookie }: Call = {}): Promise<Answer> {
    const body = json ? JSON.stringify(json) : form && new URLSearchParams(form).toString()
    const authorization = token
      ? `Bearer ${token}`
      : client && `Basic ${Buffer.from(`${client.id}:${client.secret}`).toString('base64')}`
    const headers = {
      ...(authorization && { authorization }),
      ...(cookie && { cookie }),
      ...(body !== undefined && { 'content-type': json ? 'application/json' : 'application/x-www-form-urlencoded' }),
      ...(body !== undefined && { 'content-length': Buffer.byteLength(body) }),
    }
    const answer = await new Promise<Answer>((resolve, reject) => {
      const sent = request(origin + path, { agent, method: method ?? (body === undefined ? 'GET' : 'POST'), headers })
      sent.setTimeout(patienceMs, () => sent.destroy(new Error(`no answer within ${patienceMs} ms`)))
      sent.on('error', (error: NodeJS.ErrnoException) =>
        reject(error.code === 'ECONNREFUSED' ? new NotSent(path) : new NoAnswer(`${path}: ${error.message}`)),
      )
      sent.on('response', (response: IncomingMessage) => {
        let text = ''
        response.setEncoding('utf8').on('data', (chunk) => {
          text += chunk
        })
        response.on('error', () => reject(new NoAnswer(path)))
        response.on('end', () => {
          const isJson = /json/.test(response.headers['content-type'] ?? '')
          const { location, 'set-cookie': cookies = [] } = response.headers
          const body = isJson && text !== '' ? JSON.parse(text) : undefined
          resolve({ status: response.statusCode as number, body, text, location, cookies })
        })
      })
      sent.end(body)
    })
    if (answer.status === 503) throw new Unavailable(`${path}: 503`)
    return answer
  }

  return { call, close: () => agent.destroy() }
}

export type Calls = ReturnType<typeof callsTo>['call']
