import { randomInt } from 'node:crypto'
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import type { Io } from './command.ts'
import { CommandError, exitCodes } from './exit.ts'
import { interruptedExitCode } from './interrupt.ts'

/** 32 letters, 5 bits each, without those that look alike. */
const letters = 'abcdefghijkmnpqrstuvwxyz23456789'
const groupLength = 5
const leastGroups = 5

export const isTerminal = ({ stdin, stderr }: Io) => stdin.isTTY === true && stderr.isTTY === true

/**
 * Asks on stderr, for stdout is for results.
 *
 * @param isSecret hides what is typed
 * @throws {CommandError} 130 after Ctrl-C or Ctrl-D
 */
async function ask({ stdin, stderr }: Io, questions: string[], { isSecret }: { isSecret: boolean }): Promise<string[]> {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  const terminal = createInterface({
    input: stdin,
    output: isSecret ? nowhere : stderr,
    terminal: true,
  })
  terminal.on('SIGINT', () => terminal.close())
  const lines = terminal[Symbol.asyncIterator]()
  const answers: string[] = []
  try {
    for (const question of questions) {
      stderr.write(question)
      const { value, done } = await lines.next()
      if (isSecret || done) stderr.write('\n')
      if (done) throw new CommandError('Nothing was changed.', interruptedExitCode)
      answers.push(value)
    }
  } finally {
    terminal.close()
  }
  return answers
}

export interface PasswordOptions {
  passwordStdin?: true
  generate?: true
}

/**
 * Asks for a new password, reads it from stdin, or generates it.
 *
 * @param least characters of a generated one
 * @throws {CommandError} usage, without a terminal and without an option
 */
export async function readNewPassword(
  io: Io,
  { passwordStdin, generate }: PasswordOptions,
  least: number,
): Promise<string> {
  if (generate && passwordStdin)
    throw new CommandError('--generate and --password-stdin: expected only one of them', exitCodes.usage)
  if (generate) return generatePassword(least)
  if (isTerminal(io)) {
    const [first, second] = await ask(io, ['Password: ', 'Again: '], { isSecret: true })
    if (first !== second) throw new CommandError('The passwords do not match. Nothing was changed.', exitCodes.problems)
    return first as string
  }
  if (!passwordStdin)
    throw new CommandError('A password is needed: pass --password-stdin or --generate', exitCodes.usage)
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(await buffer(io.stdin))
    return text.replace(/\r?\n$/, '')
  } catch {
    throw new CommandError('The password on stdin is not valid UTF-8', exitCodes.problems)
  }
}

/** Groups of letters separated by hyphens: at least 125 bits. */
function generatePassword(least: number): string {
  const group = () => Array.from({ length: groupLength }, () => letters[randomInt(letters.length)]).join('')
  const groups = Math.max(leastGroups, Math.ceil((least + 1) / (groupLength + 1)))
  return Array.from({ length: groups }, group).join('-')
}

/** Asks for a confirmation. @throws {CommandError} when it is refused; usage, without a terminal and without --yes */
export async function confirm(io: Io, question: string, { yes }: { yes?: true }): Promise<void> {
  if (yes) return
  if (!isTerminal(io)) throw new CommandError('Not on a terminal: pass --yes to confirm', exitCodes.usage)
  const [answer] = await ask(io, [`${question} [y/N] `], { isSecret: false })
  if (!/^y(es)?$/i.test(answer?.trim() ?? '')) throw new CommandError('Nothing was changed.', exitCodes.problems)
}
