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

/** A line for each request at debug; at info there are the events, and the requests that were refused (`plugins/errors.ts`). */
export class QuietLog extends LogController {
  override incomingRequest(): void {}

  override requestCompleted(_error: Error | null | undefined, request: FastifyRequest, reply: FastifyReply): void {
    const { method, routeOptions } = request
    request.log.debug({ method, route: routeOptions.url, status: reply.statusCode, ms: reply.elapsedTime }, 'request completed')
  }
}

/**
 * stdout, written to once in a turn of the event loop: with a write for each line, the log is a tenth of what it costs to refuse a
 * request in a storm. (pino's own blocks come later, and wait for ever at a pipe that nobody reads.)
 */
export function stdoutInBlocks() {
  let block = ''
  function flush(): void {
    const text = block
    block = ''
    if (text !== '') process.stdout.write(text)
  }
  // Who read the log has gone, or its disk is full: the service goes on.
  process.stdout.on('error', () => {})
  process.on('exit', flush)
  return {
    write(line: string): void {
      if (block === '') setImmediate(flush)
      block += line
      if (block.length >= blockLength) flush()
    },
  }
}
