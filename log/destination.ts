import { fstatSync, writeSync } from 'node:fs'
import { hostname } from 'node:os'
import { isatty } from 'node:tty'
import { events } from '../events.ts'
import type { LogDestination } from './fields.ts'

/** In characters. Shorter than PIPE_BUF, up to which writes of several processes into one pipe are not mixed. */
const blockLength = 2_048
/** Kept for a reader of stdout that is slow or has stopped reading; further lines are dropped. */
const mostUnreadBytes = 4 * 1024 * 1024

/**
 * stdout, written to once in a turn of the event loop: with a write for each line, the log is a tenth of the cost of
 * refusing a request in a storm. (pino's own blocks are written later, and block for ever on a pipe that nobody reads.)
 *
 * The service never waits for the log: a line that cannot be written is dropped, and the next line that can says how
 * many were.
 */
export async function stdoutInBlocks(): Promise<Required<LogDestination>> {
  const { stdout } = process
  const toText = stdout.isTTY ? await prettyLines() : (line: string) => line
  const put = isFile(stdout.fd) ? putIntoFile : putIntoPipe
  let block = ''
  let lines = 0
  let dropped = 0
  let unreported = 0

  function flush(): void {
    if (block === '' && unreported === 0) return
    const report = unreported > 0 ? toText(dropLine(unreported)) : ''
    if (put(report + block, unreported > 0)) unreported = 0
    else {
      dropped += lines
      unreported += lines
    }
    block = ''
    lines = 0
  }
  // The reader of the log has gone.
  stdout.on('error', () => {})
  process.stderr.on('error', () => {})
  stdout.on('drain', flush)
  process.on('exit', flush)
  return {
    write(line) {
      if (block === '') setImmediate(flush)
      block += toText(line)
      lines += 1
      if (block.length >= blockLength) flush()
    },
    droppedLines: () => dropped,
  }
}

/** @param hasDropped waits until half of the room is free: few gaps, each with its line */
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

/** The line of the event `log.dropped`. It goes around the logger, to the front of the next block. */
function dropLine(lines: number): string {
  return `${JSON.stringify({
    level: 40,
    time: Date.now(),
    pid: process.pid,
    hostname: hostname(),
    event: 'log.dropped',
    lines,
    msg: `${lines} ${events['log.dropped'].words}`,
  })}\n`
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
