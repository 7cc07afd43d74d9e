/** What the exit codes mean; the numbers above 1 are those of sysexits.h. */
export const exitCodes = { fine: 0, problems: 1, usage: 64, unavailable: 69, setting: 78 } as const

/** A failure that the operator can mend. The message is one line that names it. */
export class CommandError extends Error {
  readonly exitCode: number
  constructor(message: string, exitCode: number) {
    super(message)
    this.exitCode = exitCode
  }
}
