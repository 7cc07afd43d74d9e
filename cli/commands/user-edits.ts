import type { Json } from '../admin.ts'
import type { AdminCommand, Given } from '../command.ts'
import { printable } from '../output.ts'
import { findUser } from './find-user.ts'

/** An address, and whether it is verified, as people read it; undefined where there is none. */
export const addressOf = ({ email, email_verified }: Json): string | undefined =>
  email && `${email}, ${email_verified ? 'verified' : 'not verified'}`

/** A command that changes a user by `PATCH /admin/users/:id`. */
const edit = (
  command: Pick<AdminCommand, 'usage' | 'about' | 'options' | 'help' | 'text'> & { to(given: Given): object },
): AdminCommand => ({
  ...command,
  find: findUser,
  act: ({ call }, given) => call('PATCH', `/admin/users/${given.found.id}`, command.to(given)),
})

export const userEdits = [
  edit({
    usage: 'rename <name or id> <new name>',
    about: 'give a user another name; sessions go on',
    to: ({ args: [, username] }) => ({ username }),
    text: ({ username }, { found }) => `${printable(found.username)} is called ${printable(username)} now.`,
  }),
  edit({
    usage: 'set-email <name or id> <address>',
    about: 'set the address of a user; links that were sent end, and the old address is told',
    options: { '--verified': 'it is known to be theirs: they sign in by it, and reset a forgotten password' },
    help: '\nExamples\n  latchkey user set-email ada ada@example.com --verified',
    to: ({ args: [, email], options }) => ({ email, ...(options['verified'] && { email_verified: true }) }),
    text: (user) => `The address of ${printable(user.username)}: ${printable(addressOf(user) ?? '')}.`,
  }),
  edit({
    usage: 'remove-email <name or id>',
    about: 'remove the address of a user; links that were sent end, and the address is told',
    to: () => ({ email: null }),
    text: ({ username }) => `${printable(username)} has no address any more.`,
  }),
]
