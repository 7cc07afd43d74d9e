import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readEml } from '../plugins/mail/transports/eml.ts'
import type { Io, Options } from './command.ts'
import { CommandError, exitCodes } from './exit.ts'
import { fields, type Output, printable } from './output.ts'
import { readSettings } from './places.ts'
import { table } from './table.ts'

/** Shows the mails that the service has written as files: the last one, or a list. */
export async function mail({ env }: Io, { list }: Options, output: Output): Promise<number> {
  const { AUTH_MAIL_DIR: dir } = readSettings(env)
  if (dir === undefined)
    throw new CommandError('AUTH_MAIL_DIR: expected a directory: without it, mails are not files', exitCodes.setting)
  const names = namesIn(dir)
  const [newest] = names
  if (list) {
    const mails = names.map((name) => read(dir, name))
    if (output.isJson) output.print(JSON.stringify({ mails: mails.map(({ text: _, ...mail }) => mail) }))
    else {
      const rows = mails.map(({ date, to, subject, file }) => [date, to, subject, file].map(printable))
      output.print(table(['date', 'to', 'subject', 'file'], rows, output.columns))
    }
    return exitCodes.fine
  }
  if (newest === undefined) throw new CommandError(`There is no mail in ${printable(dir)}`, exitCodes.problems)
  const { text, link: _, code: __, ...head } = read(dir, newest)
  if (output.isJson) output.print(JSON.stringify(read(dir, newest)))
  else output.print(`${fields(head)}\n\n${text.split('\n').map(printable).join('\n')}`)
  return exitCodes.fine
}

/** The newest first: their names begin with the time. */
function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir)
      .filter((name) => name.endsWith('.eml'))
      .sort()
      .reverse()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // The first start of the service makes it.
    if (code === 'ENOENT') return []
    throw new CommandError(`AUTH_MAIL_DIR: ${printable(dir)} cannot be read: ${code}`, exitCodes.setting)
  }
}

function read(dir: string, name: string) {
  const mail = readEml(readFileSync(join(dir, name), 'utf8'))
  // On lines of their own, to be followed and typed.
  const link = /^https?:\/\/\S+$/m.exec(mail.text)?.[0]
  const code = /^\d{8}$/m.exec(mail.text)?.[0]
  return { file: join(dir, name), ...mail, link, code }
}
