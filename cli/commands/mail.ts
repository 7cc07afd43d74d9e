import type { FreeCommand } from '../command.ts'

const help = `
For development: the files are there where AUTH_MAIL_DIR has mails written as such.

Examples
  latchkey mail
  latchkey mail --json | jq -r .link`

export const mail: FreeCommand = {
  usage: 'mail',
  about: 'show the last mail of AUTH_MAIL_DIR',
  options: { '--list': 'list all of them, the newest first' },
  help,
  run: async (io, options, output) => (await import('../mail.ts')).mail(io, options, output),
}
