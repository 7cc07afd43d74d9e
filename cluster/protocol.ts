import type { Snapshot } from '../plugins/metrics/meters.ts'
import type { Explanation } from '../plugins/run/explanations.ts'

/** The start line of a worker, for the one line that says that all of them listen. */
export interface StartLine {
  details: object
  message: string
}

/** Why a worker could not start. */
export interface StartFailure {
  line: string
  exitCode: number
}

/** What the primary answers to a worker. */
export interface PrimaryProcedures {
  /** The worker follows revocations from now on. */
  joined(): void
  /** The worker has revoked something. Responds when the other workers know it. */
  revoked(): Promise<void>
  /** Responds with why a request was refused, where another worker knows. */
  explain(requestId: string): Promise<Explanation | undefined>
  listening(line: StartLine): void
  failed(failure: StartFailure): void
  /** The worker has no connections left to wait for. */
  drained(): void
}

/** What a worker answers to the primary. */
export interface WorkerProcedures {
  /** Holds its responses while the port is closed. Responds when nobody connects any more. */
  hold(): Promise<void>
  /** Reads the new revocations from the store. */
  catchUp(): Promise<void>
  /** Responds with why a request was refused, where this worker has it in memory. */
  explain(requestId: string): Explanation | undefined
  metrics(): Promise<Snapshot> | undefined
}
