/** The part of a logger that the domain writes to; a pino logger is one. */
export interface Log {
  debug(details: object, message?: string): void
  info(details: object, message?: string): void
  warn(details: object, message?: string): void
  error(details: object, message?: string): void
}

/** Whom a domain method works for: a request (`request.caller`), or a test that makes its own. */
export interface Caller {
  /** its lines carry the id of the request, and who acts where that is an administrator */
  log: Log
  /** in canonical form, see `plugins/http/client-address.ts` */
  address: string
  userAgent: string
  /** of the answer's `x-request-id` */
  requestId: string
  /** which administrator acts, where it is one: the id of a user or client, or {@link commandLine} */
  by: string | undefined
  /** aborted when the connection closes: the answer would reach nobody */
  gone: AbortSignal
}

/** Who makes a change: a request, or a job, of which there is only a log. */
export type By = Pick<Caller, 'log'> & Partial<Omit<Caller, 'log'>>

/** The `by` of who types `latchkey`. No client can have this id, for there is a space in it. */
export const commandLine = 'latchkey cli'
