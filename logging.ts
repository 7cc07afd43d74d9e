import { type FastifyReply, type FastifyRequest, LogController } from 'fastify'

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
