import { type FastifyReply, type FastifyRequest, LogController } from 'fastify'
import pino from 'pino'

/** Below what one write into a pipe may hold without being mixed with those of other processes (PIPE_BUF), by the length of a line. */
const blockBytes = 2_048
const longestDelayMs = 100

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
      req: ({ method, routeOptions, ip }: FastifyRequest) => ({ method, route: routeOptions.url, ip }),
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
 * stdout, written to in blocks: with a write for each line, the log is a tenth of what it costs to refuse a request in a storm.
 * The last lines follow within a moment, or when the process ends.
 */
export function stdoutInBlocks() {
  const stream = pino.destination({ dest: 1, sync: true, minLength: blockBytes, periodicFlush: longestDelayMs })
  process.on('exit', () => stream.flushSync())
  return stream
}
