type Procedure = (...params: never[]) => unknown
type Procedures<Names> = Record<keyof Names, Procedure>

/** What messages are sent through: `process` in a worker, the worker's process in the primary. */
interface Port {
  readonly connected: boolean
  send?(message: object, done: (error: Error | null) => void): boolean
  on(event: 'message', listener: (message: unknown) => void): unknown
}

/** Node sends messages of its own through the same port. */
type Message =
  | { latchkey: 'request'; id: number; name: string; params: never[] }
  | { latchkey: 'response'; id: number; result: unknown }

/** Of a request that says nothing else. */
const usualTimeoutMs = 250

/**
 * Requests and responses between two processes, in both directions.
 *
 * @param procedures what the other process may call here
 */
export function openChannel<Remote extends Procedures<Remote>, Local extends Procedures<Local>>(
  port: Port,
  procedures: Local,
) {
  const pending = new Map<number, (result?: unknown) => void>()
  let lastId = 0
  let isLate = false

  // Sending fails when the other process has ended, which is noticed elsewhere.
  const send = (message: Message) => void (port.connected && port.send?.(message, () => {}))

  port.on('message', async (received) => {
    const message = received as Message
    if (message.latchkey === 'request') {
      const { id, name, params } = message
      send({ latchkey: 'response', id, result: await procedures[name as keyof Local](...params) })
    } else if (message.latchkey === 'response') {
      isLate = false
      pending.get(message.id)?.(message.result)
    }
  })

  return {
    /** Whether the last request that was waited for has had no response in time. */
    get isLate() {
      return isLate
    },
    /** @returns the result; undefined when none comes within the timeout, or the other process has ended */
    request<Name extends keyof Remote & string>(
      name: Name,
      params: Parameters<Remote[Name]>,
      timeoutMs = usualTimeoutMs,
    ): Promise<Awaited<ReturnType<Remote[Name]>> | undefined> {
      const id = ++lastId
      return new Promise((resolve) => {
        const settle = (result?: unknown) => {
          clearTimeout(timer)
          pending.delete(id)
          resolve(result as Awaited<ReturnType<Remote[Name]>> | undefined)
        }
        const timer = setTimeout(() => {
          isLate = true
          settle()
        }, timeoutMs)
        pending.set(id, settle)
        send({ latchkey: 'request', id, name, params: params as never[] })
      })
    },
    /** Ends every wait for a response. */
    close(): void {
      for (const settle of pending.values()) settle()
    },
  }
}
