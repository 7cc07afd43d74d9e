import { randomInt } from 'node:crypto'
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { CommandError, exitCodes } from './exit.ts'

/** 128 + SIGINT */
const interruptedExitCode = 130
/** No letter that is taken for another: 32 of them, 5 bits each. */
const letters = 'abcdefghijkmnpqrstuvwxyz23456789'
const groupLength = 5
const leastGroups = 5

const isTerminal = () => process.stdin.isTTY === true && process.stderr.isTTY === true

/**
 * Asks on the terminal, on stderr, for stdout is for results.
 *
 * @param isSecret what is typed is not shown
 * @throws {CommandError} when whoever is asked leaves
 */
async function ask(questions: string[], { isSecret }: { isSecret: boolean }): Promise<string[]> {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  const terminal = createInterface({
    input: process.stdin,
    output: isSecret ? nowhere : process.stderr,
    terminal: true,
  })
  terminal.on('SIGINT', () => terminal.close())
  const lines = terminal[Symbol.asyncIterator]()
  const answers: string[] = []
  try {
    for (const question of questions) {
      process.stderr.write(question)
      const { value, done } = await lines.next()
      if (isSecret || done) process.stderr.write('\n')
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

/** What every command says that takes a password. */
export const passwordHelp = `The password is asked for on a terminal, read from stdin with --password-stdin (one line end after it is not
part of it), or made with --generate. It is never an argument: those are shown to everyone on the machine.`

/**
 * A new password, from wherever the options say.
 *
 * @param least characters, for one that is made
 * @throws {CommandError} usage, where there is nobody to ask
 */
export async function readNewPassword({ passwordStdin, generate }: PasswordOptions, least: number): Promise<string> {
  if (generate && passwordStdin)
    throw new CommandError('--generate and --password-stdin: expected only one of them', exitCodes.usage)
  if (generate) return generatePassword(least)
  if (isTerminal()) {
    const [first, second] = await ask(['Password: ', 'Again: '], { isSecret: true })
    if (first !== second) throw new CommandError('The two are not the same. Nothing was changed.', exitCodes.problems)
    return first as string
  }
  if (!passwordStdin)
    throw new CommandError('A password is needed: pass --password-stdin or --generate', exitCodes.usage)
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(await buffer(process.stdin))
    return text.replace(/\r?\n$/, '')
  } catch {
    throw new CommandError('The password on stdin is not valid UTF-8', exitCodes.problems)
  }
}

/** Groups of letters with a hyphen between them: 125 bits, or more where more characters are asked for. */
function generatePassword(least: number): string {
  const group = () => Array.from({ length: groupLength }, () => letters[randomInt(letters.length)]).join('')
  const groups = Math.max(leastGroups, Math.ceil((least + 1) / (groupLength + 1)))
  return Array.from({ length: groups }, group).join('-')
}

/** Goes on only if it is really meant. @throws {CommandError} when it is not, or there is nobody to ask and no --yes */
export async function confirm(question: string, { yes }: { yes?: true }): Promise<void> {
  if (yes) return
  if (!isTerminal()) throw new CommandError('Not on a terminal: pass --yes if it is really meant', exitCodes.usage)
  const [answer] = await ask([`${question} [y/N] `], { isSecret: false })
  if (!/^y(es)?$/i.test(answer?.trim() ?? '')) throw new CommandError('Nothing was changed.', exitCodes.problems)
}
