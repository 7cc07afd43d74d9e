/*
 * Load over HTTP, from a process of its own, in a closed loop: each connection sends its next request when the
 * answer is there.
 *
 * Not a package, because this one waits for the last answers: a refresh that is lost between two loads would come
 * again as a stolen token. And an auth service should not install the dependencies of a load generator.
 */
import { connect as connectPlain, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { type Load, nextBodies } from './load.ts'
import { type Measured, summary } from './meter.ts'
import { serveCalls } from './processes.ts'

export interface LoadResult extends Measured {
  /** late ones included */
  answers: number
  /** body of the last answer */
  answerBytes: number
  /** to go on with; empty where requests have none */
  bodies: string[]
  /** share of one core */
  generatorBusy: number
}

const answerTimeoutMs = 30_000
const reconnectMs = 50
/** Failed connections in a row after which the server counts as gone. */
const maxReconnects = 20

/** What the connections of a load have seen together. */
const createTally = (startedAt: number, seconds: number) => ({
  latencies: [] as number[],
  errors: 0,
  answers: 0,
  answerBytes: 0,
  wrong: undefined as string | undefined,
  endAt: startedAt + seconds * 1000,
  lastAt: startedAt,
})
type Tally = ReturnType<typeof createTally>

async function generate({ origin, seconds, ...load }: Load & { origin: string; seconds: number }): Promise<LoadResult> {
  const cpuBefore = process.cpuUsage()
  const sockets = await Promise.all(load.requests.map(() => connected(origin)))
  const startedAt = performance.now()
  const tally = createTally(startedAt, seconds)
  const bodies = await Promise.all(sockets.map((socket, index) => keepBusy(socket, origin, load, index, tally)))
  const { user, system } = process.cpuUsage(cpuBefore)
  const { latencies, errors, answers, answerBytes, wrong, lastAt } = tally
  return {
    ...summary(latencies, lastAt - startedAt, errors),
    answers,
    answerBytes,
    bodies: bodies.filter((body) => body !== undefined),
    generatorBusy: (user + system) / 1000 / (performance.now() - startedAt),
    ...(wrong !== undefined && { wrong }),
  }
}

function open(origin: string, onConnect: () => void): Socket {
  const { protocol, hostname, port } = new URL(origin)
  const host = hostname.replace(/^\[|\]$/g, '')
  return protocol === 'https:'
    ? connectTls({ host, port: Number(port || 443), servername: host }, onConnect)
    : connectPlain({ host, port: Number(port || 80), noDelay: true }, onConnect)
}

const connected = (origin: string) =>
  new Promise<Socket>((resolve, reject) => {
    const socket = open(origin, () => resolve(socket.removeAllListeners('error')))
    socket.once('error', (error) => reject(new Error(`${origin} cannot be reached: ${error.message}`)))
  })

/** Keeps one connection busy until the time is up. @returns the body to go on with */
function keepBusy(
  first: Socket,
  origin: string,
  { method, path, requests, expected, next }: Load,
  index: number,
  tally: Tally,
): Promise<string | undefined> {
  const request = requests[index] as Load['requests'][number]
  const head = [
    `${method} ${path} HTTP/1.1`,
    `host: ${new URL(origin).host}`,
    'user-agent: latchkey-bench',
    ...Object.entries(request.headers).map(([name, value]) => `${name}: ${value}`),
  ].join('\r\n')
  const textOf = (body = '') =>
    `${head}\r\n${method === 'GET' ? '' : `content-length: ${Buffer.byteLength(body)}\r\n`}\r\n${body}`
  let body = request.body
  let text = textOf(body)

  return new Promise((resolve, reject) => {
    let socket = first
    let sentAt = 0
    let reconnects = 0
    const timeoutMs = tally.endAt - performance.now() + answerTimeoutMs
    const timer = setTimeout(() => socket.destroy(new Error('no answer in time')), timeoutMs)
    const finish = () => {
      clearTimeout(timer)
      socket.removeAllListeners().on('error', () => {})
      socket.destroy()
      resolve(body)
    }
    const send = () => {
      sentAt = performance.now()
      socket.write(text)
    }
    function take(status: number, answer: Buffer): void {
      const now = performance.now()
      reconnects = 0
      tally.answers += 1
      tally.answerBytes = answer.length
      if (status !== expected) {
        tally.errors += 1
        tally.wrong ??= `${status} ${answer.toString().slice(0, 200)}`
      }
      if (now <= tally.endAt || tally.latencies.length === 0) {
        tally.latencies.push(now - sentAt)
        tally.lastAt = now
      }
      if (next && status === expected) {
        body = nextBodies[next](answer.toString('latin1')) ?? body
        text = textOf(body)
      }
      if (now < tally.endAt) send()
      else finish()
    }
    function watch(of: Socket): void {
      socket = of
      let rest: Buffer | undefined
      socket
        .on('error', () => {})
        .on('data', (chunk) => {
          const bytes = rest ? Buffer.concat([rest, chunk]) : chunk
          const answer = readAnswer(bytes)
          rest = answer ? undefined : bytes
          if (answer) take(answer.status, answer.body)
        })
      socket.on('close', () => {
        tally.errors += 1
        reconnects += 1
        if (performance.now() >= tally.endAt) finish()
        else if (reconnects > maxReconnects)
          reject(new Error(`${origin} closes its connections, or cannot be reached any more`))
        else setTimeout(() => watch(open(origin, send)), reconnectMs)
      })
    }
    watch(first)
    send()
  })
}

/** One complete answer, RFC 9112; undefined until its end is there. */
function readAnswer(bytes: Buffer): { status: number; body: Buffer } | undefined {
  const headEnd = bytes.indexOf('\r\n\r\n')
  if (headEnd < 0) return undefined
  const head = bytes.toString('latin1', 0, headEnd)
  const status = Number(head.slice(9, 12))
  const body = bytes.subarray(headEnd + 4)
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
  if (length !== undefined) return body.length < Number(length) ? undefined : { status, body }
  if (/\r\ntransfer-encoding: *chunked/i.test(head))
    return body.subarray(-5).toString('latin1') === '0\r\n\r\n' ? { status, body } : undefined
  return { status, body }
}

serveCalls({ generate })
