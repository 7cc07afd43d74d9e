import { type FastifyReply, type FastifyRequest, LogController } from 'fastify'

/** Where log lines go. */
export interface LogDestination {
  write(line: string): void
  /** lines that it could not write */
  droppedLines?(): number
}

/**
 * What is logged of a request: never a header, a query or a body, for secrets travel in all of them.
 *
 * @param level least severity
 * @param stream stdout when not given
 */
export function loggerOptions(level: string, stream?: LogDestination) {
  return {
    level,
    serializers: {
      req: ({ method, routeOptions, address }: FastifyRequest) => ({ method, route: routeOptions.url, address }),
      res: ({ statusCode }: { statusCode: number }) => ({ statusCode }),
    },
    ...(stream && { stream }),
  }
}

/**
 * Logs each request at debug only. At info there are the events, and the requests that were refused
 * (`plugins/http/errors.ts`).
 */
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
