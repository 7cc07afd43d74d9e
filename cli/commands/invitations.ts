import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { AdminCommand } from '../command.ts'
import { fields, when } from '../output.ts'

const invite: AdminCommand = {
  usage: 'invite',
  about: 'invite somebody to make an account, also while signup is closed; prints a link for 7 days',
  options: {
    '--email <address>': 'of the account, verified; the link is mailed there where mails are set up',
    '--username <name>': 'of the account; chosen at sign-up when not given',
    '--role <role>': { about: 'a role, such as admin; repeatable', isRepeatable: true },
  },
  help: `
Examples
  latchkey user invite --email eve@example.com --role editor
  latchkey user invite --json | jq -r .link`,
  makesSecret: true,
  act: ({ call }, { options: { email, username, role } }) =>
    call('POST', '/admin/invitations', omitUndefined({ email, username, roles: role })),
  text: ({ id, link, expires_at, mailed }, { options: { email } }) =>
    fields({
      link,
      id,
      expires: when(expires_at),
      mailed: mailed ? `to ${email}, by the running service` : 'no: hand the link over',
    }),
}

const withdraw: AdminCommand = {
  usage: 'withdraw-invitation <id>',
  about: 'end an invitation that nobody has used yet',
  act: ({ call }, { args: [id = ''] }) => call('DELETE', `/admin/invitations/${encodeURIComponent(id)}`),
  json: (_answer, { args: [id] }) => ({ id, withdrawn: true }),
  text: () => 'The invitation is withdrawn.',
}

export const invitations = [invite, withdraw]
