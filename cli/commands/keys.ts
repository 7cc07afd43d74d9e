import type { Group } from '../command.ts'
import { fields, timeOf } from '../output.ts'

export const keys: Group = {
  name: 'keys',
  about: 'look at and replace the keys that access tokens are signed with',
  commands: [
    {
      usage: 'list',
      about: 'the signing keys, newest first',
      list: () => ({
        path: '/admin/keys',
        member: 'keys',
        columns: {
          kid: 'kid',
          alg: 'alg',
          state: 'state',
          created: timeOf('created_at'),
          'signs from': timeOf('signs_from'),
          retires: timeOf('retires_at'),
        },
      }),
    },
    {
      usage: 'rotate',
      about: 'make the next key now; it is published at once and signs in ten minutes',
      options: { '--leaked': 'a key has leaked: the new one signs at once, all others are withdrawn' },
      help: `
With --leaked every access token is refused, here within a second and by other services when they fetch the JWKS again (five
minutes at most). Sessions stay: clients refresh and go on.`,
      makesSecret: true,
      act: ({ call }, { options: { leaked } }) => call('POST', '/admin/keys/rotate', leaked ? { leaked } : {}),
      text: (key, { options: { leaked } }) =>
        (leaked ? 'All other keys are withdrawn, and every access token that was out is refused.\n' : '') +
        fields({ kid: key.kid, alg: key.alg, state: key.state, 'signs from': timeOf('signs_from')(key) }),
    },
    {
      usage: 'withdraw <kid>',
      about: 'take a key away that does not sign any more; what it signed is refused',
      act: ({ call }, { args: [kid = ''] }) => call('DELETE', `/admin/keys/${encodeURIComponent(kid)}`),
      json: (_answer, { args: [kid] }) => ({ kid, withdrawn: true }),
      text: () => 'The key is withdrawn, and what it signed is refused.',
    },
  ],
}
