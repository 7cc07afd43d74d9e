/*
 * The load over HTTP, from a process of its own: so many connections, on each one request after the other, the next as soon as
 * the answer is there.
 *
 * It is made for this: it waits for the last answers, so that no refresh is lost between two loads, which the store would take for
 * a token that was stolen; and it brings no dependency into an auth service.
 */
import { connect as connectPlain, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { asForm, password } from './client.ts'
import { type Measured, summary } from './meter.ts'
import { serveCalls } from './remote.ts'

export interface Load {
  /** such as http://127.0.0.1:3000 */
  origin: string
  method: 'GET' | 'POST'
  path: string
  /** One for each connection. */
  requests: { headers: Record<string, string>; body?: string }[]
  /** the status of an answer that is right */
  expected: number
  /** how the next body of a connection follows from an answer; the same again when not given */
  next?: keyof typeof nextBodies
  seconds: number
}

export interface LoadResult extends Measured {
  /** all answers, also those that came when the time was up */
  answers: number
  /** of the body of the last answer */
  answerBytes: number
  /** the bodies to go on with; none where there are none */
  bodies: string[]
  /** of one core */
  generatorBusy: number
  /** the first answer that was wrong */
  wrong?: string
}

const longestWaitMs = 30_000
const reconnectMs = 50
/** That many connections in a row that cannot be made are a server that is not there. */
const mostReconnects = 20

let signups = 0
const nextBodies = {
  refresh: (answer: string) => {
    const token = /"refresh_token":"([^"]+)"/.exec(answer)?.[1]
    return token && asForm(token)
  },
  signup: () => {
    signups += 1
    return JSON.stringify({ username: `new-${process.pid}-${signups}`, password })
  },
} satisfies Record<string, (answer: string) => string | undefined>

async function generate({ origin, method, path, requests, expected, next, seconds }: Load): Promise<LoadResult> {
  const { protocol, hostname, port, host } = new URL(origin)
  const to = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) || (protocol === 'https:' ? 443 : 80) }
  const open = () =>
    protocol === 'https:' ? connectTls({ ...to, servername: to.host }) : connectPlain({ ...to, noDelay: true })

  const latencies: number[] = []
  const bodies = requests.map(({ body }) => body)
  const cpuBefore = process.cpuUsage()
  let [errors, answers, answerBytes] = [0, 0, 0]
  let wrong: string | undefined
  let [startedAt, endAt, lastAt] = [0, 0, 0]

  /** Keeps one connection busy until the time is up. */
  function keepBusy(index: number, first: Socket): Promise<void> {
    const { headers } = requests[index] as Load['requests'][number]
    const head = [
      `${method} ${path} HTTP/1.1`,
      `host: ${host}`,
      'user-agent: latchkey-bench',
      ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    ].join('\r\n')
    const write = (body = '') =>
      `${head}\r\n${method === 'GET' ? '' : `content-length: ${Buffer.byteLength(body)}\r\n`}\r\n${body}`
    if (next === 'signup') bodies[index] = nextBodies.signup()
    let text = write(bodies[index])

    return new Promise((resolve, reject) => {
      let socket = first
      let sentAt = 0
      let rest: Buffer | undefined
      let reconnects = 0
      const timer = setTimeout(() => socket.destroy(new Error('no answer in time')), seconds * 1000 + longestWaitMs)
      const finish = () => {
        clearTimeout(timer)
        socket.removeAllListeners().on('error', () => {})
        socket.destroy()
        resolve()
      }
      const send = () => {
        sentAt = performance.now()
        socket.write(text)
      }
      function take(status: number, body: Buffer): void {
        const now = performance.now()
        answers += 1
        answerBytes = body.length
        if (status !== expected) {
          errors += 1
          wrong ??= `${status} ${body.toString().slice(0, 200)}`
        }
        if (now <= endAt || latencies.length === 0) {
          latencies.push(now - sentAt)
          lastAt = now
        }
        if (next && status === expected) {
          bodies[index] = nextBodies[next](body.toString('latin1')) ?? bodies[index]
          text = write(bodies[index])
        }
        if (now < endAt) send()
        else finish()
      }
      function onData(chunk: Buffer): void {
        const bytes = rest ? Buffer.concat([rest, chunk]) : chunk
        const answer = readAnswer(bytes)
        rest = answer ? undefined : bytes
        if (answer) take(answer.status, answer.body)
      }
      function reconnect(): void {
        socket = open()
        watch()
        socket.once(protocol === 'https:' ? 'secureConnect' : 'connect', send)
      }
      function onClose(): void {
        errors += 1
        reconnects += 1
        rest = undefined
        if (performance.now() >= endAt) resolve()
        else if (reconnects > mostReconnects)
          reject(new Error(`${origin} closes its connections, or cannot be reached any more`))
        else setTimeout(reconnect, reconnectMs)
      }
      const watch = () => {
        socket.on('data', onData)
        socket.on('close', onClose)
        socket.on('error', () => {})
      }
      watch()
      send()
    })
  }

  const sockets = await Promise.all(
    requests.map(
      () =>
        new Promise<Socket>((resolve, reject) => {
          const socket = open()
          socket.once('error', (error) => reject(new Error(`${origin} cannot be reached: ${error.message}`)))
          socket.once(protocol === 'https:' ? 'secureConnect' : 'connect', () => {
            socket.removeAllListeners('error')
            resolve(socket)
          })
        }),
    ),
  )
  startedAt = performance.now()
  endAt = startedAt + seconds * 1000
  lastAt = startedAt
  await Promise.all(sockets.map((socket, index) => keepBusy(index, socket)))
  const { user, system } = process.cpuUsage(cpuBefore)
  return {
    ...summary(latencies, lastAt - startedAt, errors),
    answers,
    answerBytes,
    bodies: bodies.filter((body) => body !== undefined),
    generatorBusy: (user + system) / 1000 / (performance.now() - startedAt),
    ...(wrong !== undefined && { wrong }),
  }
}

/** One whole answer, RFC 9112; undefined as long as it is not there to its end. */
function readAnswer(bytes: Buffer): { status: number; body: Buffer } | undefined {
  const headEnd = bytes.indexOf('\r\n\r\n')
  if (headEnd < 0) return undefined
  const head = bytes.toString('latin1', 0, headEnd)
  const status = Number(head.slice(9, 12))
  const body = bytes.subarray(headEnd + 4)
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
  if (length !== undefined) return body.length < Number(length) ? undefined : { status, body }
  if (/\r\ntransfer-encoding: *chunked/i.test(head))
    return body.toString('latin1', -5) === '0\r\n\r\n' ? { status, body } : undefined
  return { status, body }
}

serveCalls({ generate })
