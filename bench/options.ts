/* What a run is asked for. */
export const figureNames = [
  'logins',
  'signups',
  'refreshes',
  'client-credentials',
  'introspections',
  'protected',
  'verify',
  'latchkey-verify',
  'latchkey-verify-new',
] as const
export type FigureName = (typeof figureNames)[number]

export interface BenchOptions {
  /** for each figure, in all rounds together */
  seconds: number
  rounds: number
  connections: number
  /** undefined for all */
  only?: FigureName[]
  workers?: string
  /** PostgreSQL, in a schema that is dropped at the end; LMDB when not given */
  databaseUrl?: string
  /** a service that is running */
  url?: string
}
