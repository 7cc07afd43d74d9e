import { fstatSync, writeSync } from 'node:fs'
import { hostname } from 'node:os'
import { isatty } from 'node:tty'
import { type FastifyReply, type FastifyRequest, LogController } from 'fastify'

/** Below what one write into a pipe may hold without being mixed with those of other processes (PIPE_BUF), by the length of a line. */
const blockLength = 2_048

/**
 * What is logged of a request: never a header, a query or a body, for secrets travel in all of them.
 *
 * @param level least severity
 * @param stream where lines go; stdout when not given
 */
export function loggerOptions(level: string, stream?: { write(line: string): void }) {
  return {
    level,
    serializers: {
      req: ({ method, routeOptions, address }: FastifyRequest) => ({ method, route: routeOptions.url, address }),
      res: ({ statusCode }: { statusCode: number }) => ({ statusCode }),
    },
    ...(stream && { stream }),
  }
}

/** A line for each request at debug; at info there are the events, and the requests that were refused (`plugins/http/errors.ts`). */
export class QuietLog extends LogController {
  override incomingRequest(): void {}

  override requestCompleted(_error: Error | null | undefined, request: FastifyRequest, reply: FastifyReply): void {
    const { method, routeOptions } = request
    request.log.debug(
      { method, route: routeOptions.url, status: reply.statusCode, ms: reply.elapsedTime },
      'request completed',
    )
  }
}

/** What is kept for a reader of stdout that is slow or does not read at all; more is dropped. */
const mostUnreadBytes = 4 * 1024 * 1024

let droppedLines = 0
/** Lines that this process has dropped, because nobody read them or the disk was full. */
export const logLinesDropped = (): number => droppedLines

/**
 * stdout, written to once in a turn of the event loop: with a write for each line, the log is a tenth of what it costs to refuse a
 * request in a storm. (pino's own blocks come later, and wait for ever at a pipe that nobody reads.)
 *
 * Whatever becomes of who reads it, the service goes on: what cannot be written is dropped, and counted in the next line that can.
 */
export async function stdoutInBlocks() {
  const { stdout } = process
  const toText = stdout.isTTY ? await prettyLines() : (line: string) => line
  const put = isFile(stdout.fd) ? putIntoFile : putIntoPipe
  let block = ''
  let lines = 0
  let untold = 0

  function flush(): void {
    if (block === '' && untold === 0) return
    const told = untold
    if (put((told > 0 ? toText(lossOf(told)) : '') + block, told > 0)) untold = 0
    else {
      droppedLines += lines
      untold += lines
    }
    block = ''
    lines = 0
  }
  // Who read the log has gone.
  stdout.on('error', () => {})
  process.stderr.on('error', () => {})
  stdout.on('drain', flush)
  process.on('exit', flush)
  return {
    write(line: string): void {
      if (block === '') setImmediate(flush)
      block += toText(line)
      lines += 1
      if (block.length >= blockLength) flush()
    },
  }
}

/** @param hasDropped then room for a while is waited for: gaps are few, and each is told */
function putIntoPipe(text: string, hasDropped: boolean): boolean {
  if (process.stdout.writableLength + text.length > (hasDropped ? mostUnreadBytes / 2 : mostUnreadBytes)) return false
  process.stdout.write(text)
  return true
}

/** Not by the stream, which ends for good at a disk that is full for a while. */
function putIntoFile(text: string): boolean {
  try {
    writeSync(process.stdout.fd, text)
    return true
  } catch {
    return false
  }
}

function isFile(fd: number): boolean {
  try {
    const stats = fstatSync(fd)
    return stats.isFile() || (stats.isCharacterDevice() && !isatty(fd))
  } catch {
    return false
  }
}

/** @param count lines that were dropped */
function lossOf(count: number): string {
  const line = {
    level: 40,
    time: Date.now(),
    pid: process.pid,
    hostname: hostname(),
    event: 'log.dropped',
    lines: count,
  }
  return `${JSON.stringify({ ...line, msg: `${count} lines were dropped here, because nobody read the log or the disk was full` })}\n`
}

/** For people at a terminal; machines get JSON. */
async function prettyLines(): Promise<(line: string) => string> {
  const { prettyFactory } = await import('pino-pretty')
  const pretty = prettyFactory({
    colorize: process.stdout.hasColors(),
    ignore: 'pid,hostname',
    translateTime: 'SYS:HH:MM:ss',
    singleLine: true,
  })
  return (line) => pretty(line)
}
