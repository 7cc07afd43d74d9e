/*
 * A storm, from a process of its own: requests at a rate that does not heed the answers, as strangers and broken
 * clients send them. Told by one message, it answers with one.
 */
import { connect, type Socket } from 'node:net'

export interface Storm {
  /** such as http://127.0.0.1:3000 */
  origin: string
  perSecond: number
  seconds: number
  /** own addresses, one after the other; with none given the system's, which finds free ports faster */
  from?: string[]
  /** for X-Forwarded-For, by chance */
  forwardedFor?: string[]
  /** forms for `POST /token`, by chance */
  bodies: string[]
  /** the connection is given up when there is no answer for so long */
  patienceMs?: number
}

export interface StormResult {
  sent: number
  /** by status; `ms` are quantiles of the time to the answer */
  answers: Record<string, { count: number; p50Ms: number; p99Ms: number; maxMs: number }>
  /** answers a second to logins that were hashed, while the storm lasted */
  hashedPerSecond: number
  /** connections that the service broke, or did not take */
  broken: number
  /** the first answers that were not as the contract has it */
  wrong: string[]
}

const tickMs = 5
/** After the last request: longer than any wait for a hash in these tests. */
const lastAnswersMs = 8_000
const mostWrong = 5

const textOf = (bytes: Buffer) => bytes.toString('latin1')

/** What every answer to a login has to be. @returns what is wrong with it */
function faultOf(status: number, head: string, body: string): string | undefined {
  const expected: Record<number, string> = {
    200: 'access_token',
    400: 'invalid_grant',
    429: 'invalid_request',
    503: 'temporarily_unavailable',
  }
  const word = expected[status]
  if (word === undefined || !body.includes(word)) return `${status} ${body}`
  if (status >= 429 && !/\r\nretry-after: *[1-9][0-9]*\r\n/i.test(`${head}\r\n`)) return `${status} without Retry-After`
  return undefined
}

async function rage({
  origin,
  perSecond,
  seconds,
  from = [''],
  forwardedFor,
  bodies,
  patienceMs,
}: Storm): Promise<StormResult> {
  const { hostname, port, host } = new URL(origin)
  const any = <T>(list: T[]) => list[Math.floor(Math.random() * list.length)] as T
  const latencies = new Map<string, number[]>()
  const wrong: string[] = []
  const idle = new Map<string, Socket[]>(from.map((address) => [address, []]))
  const open = new Set<Socket>()
  let [sent, pending, broken, hashed] = [0, 0, 0, 0]

  function take(status: number, head: string, body: string, ms: number): void {
    const times = latencies.get(String(status)) ?? []
    latencies.set(String(status), times)
    times.push(ms)
    if (status <= 400 && performance.now() < startedAt + seconds * 1000) hashed += 1
    const fault = faultOf(status, head, body)
    if (fault !== undefined && wrong.length < mostWrong) wrong.push(fault)
  }

  function send(address: string): void {
    const body = any(bodies)
    const head = [
      'POST /token HTTP/1.1',
      `host: ${host}`,
      'content-type: application/x-www-form-urlencoded',
      `content-length: ${Buffer.byteLength(body)}`,
      ...(forwardedFor ? [`x-forwarded-for: ${any(forwardedFor)}`] : []),
    ]
    const socket =
      idle.get(address)?.pop() ??
      connect({ host: hostname, port: Number(port), noDelay: true, ...(address && { localAddress: address }) })
    open.add(socket)
    sent += 1
    pending += 1
    const sentAt = performance.now()
    let bytes = Buffer.alloc(0)
    let isGivenUp = false
    const impatience = setTimeout(
      () => {
        isGivenUp = true
        // With a reset: thousands of ports would be kept for a minute otherwise.
        socket.resetAndDestroy()
      },
      patienceMs ?? (seconds + 60) * 1000,
    )
    const done = () => {
      clearTimeout(impatience)
      socket.removeAllListeners()
      pending -= 1
    }
    socket.on('error', () => {})
    socket.once('close', () => {
      done()
      open.delete(socket)
      if (!isGivenUp) broken += 1
    })
    socket.on('data', (chunk) => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk])
      const headEnd = bytes.indexOf('\r\n\r\n')
      const head = headEnd < 0 ? '' : textOf(bytes.subarray(0, headEnd))
      const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1])
      if (headEnd < 0 || bytes.length < headEnd + 4 + length) return
      take(Number(head.slice(9, 12)), head, textOf(bytes.subarray(headEnd + 4)), performance.now() - sentAt)
      done()
      socket.on('error', () => {})
      socket.once('close', () => {
        const others = idle.get(address) as Socket[]
        idle.set(
          address,
          others.filter((other) => other !== socket),
        )
        open.delete(socket)
      })
      idle.get(address)?.push(socket)
    })
    socket.write(`${head.join('\r\n')}\r\n\r\n${body}`)
  }

  const startedAt = performance.now()
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const passedMs = Math.min(performance.now() - startedAt, seconds * 1000)
      const due = Math.floor((passedMs * perSecond) / 1000)
      while (sent < due) send(from[sent % from.length] as string)
      if (passedMs < seconds * 1000) return
      clearInterval(timer)
      resolve()
    }, tickMs)
  })
  const endAt = performance.now() + lastAnswersMs
  while (pending > 0 && performance.now() < endAt) await new Promise((resolve) => setTimeout(resolve, tickMs))
  broken += pending
  for (const socket of open)
    socket
      .removeAllListeners()
      .on('error', () => {})
      .destroy()

  const answers: StormResult['answers'] = {}
  for (const [status, times] of latencies) {
    const sorted = times.sort((a, b) => a - b)
    const at = (share: number) =>
      Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number)
    answers[status] = { count: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) }
  }
  return { sent, answers, hashedPerSecond: hashed / seconds, broken, wrong }
}

process.on('message', async (storm: Storm) => process.send?.(await rage(storm)))
process.once('disconnect', () => process.exit())
