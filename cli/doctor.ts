import { examineConfig } from '../config.ts'
import type { Io, Options } from './command.ts'
import { type Line, runChecks, type Verdict } from './doctor/check.ts'
import { gatherFacts } from './doctor/facts.ts'
import { checks } from './doctor/index.ts'
import { lookAt, remote } from './doctor/remote.ts'
import { CommandError, exitCodes } from './exit.ts'
import { type Output, printable } from './output.ts'

/** What the worst line is to a script. Usage is told apart by the codes above 2. */
const exitCodeOf: Record<Verdict, number> = { failed: 2, warning: 1, ok: 0, skipped: 0 }

/**
 * `latchkey doctor`: looks at a service by its settings, or from outside, and says what to change.
 *
 * @returns the exit code: 2 where something failed, 1 where there is a warning
 */
export async function doctor({ env }: Io, { url }: Options, output: Output): Promise<number> {
  const onCheck = (id: string) => output.progress(`looking at ${id}`)
  const lines =
    url === undefined ? await lookInside(env, onCheck) : await runChecks(remote, lookAt(readUrl(url), env), onCheck)
  output.endProgress()
  report(lines.map(withoutSecrets({ ...env, ...examineConfig(env).config })), output)
  return Math.max(...lines.map(({ verdict }) => exitCodeOf[verdict]))
}

async function lookInside(env: NodeJS.ProcessEnv, onCheck: (id: string) => void): Promise<Line[]> {
  const { facts, end } = gatherFacts(env)
  try {
    return await runChecks(checks, facts, onCheck)
  } finally {
    end()
  }
}

/** @throws {CommandError} usage */
function readUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url && /^https?:$/.test(url.protocol) && !url.username && !url.password && !url.search && !url.hash) return text
  throw new CommandError('--url: expected http://… or https://…, without user name, query or fragment', exitCodes.usage)
}

/** What is shorter stands in other words too. */
const leastHidden = 4

/** What was seen may hold words of another program: no secret is printed, whatever they are. */
function withoutSecrets(given: Record<string, unknown>): (line: Line) => Line {
  const textOf = (name: string) => String(given[name] ?? '')
  const passwords = ['DATABASE_URL', 'AUTH_SMTP_URL'].flatMap((name) => {
    const [, password = ''] = /^[a-z]+:\/\/[^:/?#]*:(.*)@/is.exec(textOf(name)) ?? []
    return [password, decode(password)]
  })
  const ours = ['AUTH_SECRET', 'AUTH_SECRET_PREVIOUS', 'AUTH_MAIL_WEBHOOK_SECRET']
  const named = [...ours, 'PGPASSWORD', 'LATCHKEY_CLIENT_SECRET']
  const secrets = [...passwords, ...named.map(textOf)]
  const hide = (text: string, secret: string) => (secret.length < leastHidden ? text : text.replaceAll(secret, '…'))
  return (line) => ({ ...line, seen: secrets.reduce(hide, line.seen) })
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function report(lines: Line[], output: Output): void {
  if (output.isJson) return void output.print(JSON.stringify(lines))
  const shown = together(lines)
  const width = Math.max(...shown.map(({ id }) => id.length))
  for (const { verdict, id, seen, setting, advice } of shown) {
    output.print(`${verdict.padEnd(7)}  ${id.padEnd(width)}  ${printable(seen)}`)
    const what = [setting, advice].filter((text) => text !== undefined).join(': ')
    if (what !== '') output.print(`${' '.repeat(9 + width)}  ${printable(what)}`)
  }
  const total = (wanted: Verdict) => lines.filter(({ verdict }) => verdict === wanted).length
  const warnings = total('warning')
  output.print(
    `\n${total('failed')} failed, ${warnings} warning${warnings === 1 ? '' : 's'}, ${total('ok')} ok, ` +
      `${total('skipped')} skipped. docs/doctor.md explains each line.`,
  )
}

/** Makes one line of all that were skipped for one reason, one after the other. */
function together(lines: Line[]): Line[] {
  const kept: (Line & { more: number })[] = []
  for (const line of lines) {
    const last = kept.at(-1)
    if (line.verdict === 'skipped' && last?.verdict === 'skipped' && last.seen === line.seen) last.more += 1
    else kept.push({ ...line, more: 0 })
  }
  return kept.map(({ more, ...line }) => (more > 0 ? { ...line, id: `${line.id} and ${more} more` } : line))
}
