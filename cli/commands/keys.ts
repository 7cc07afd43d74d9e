import type { Group } from '../command.ts'
import { fields, timeOf } from '../output.ts'

export const keys: Group = {
  name: 'keys',
  about: 'manage the keys that sign access tokens',
  commands: [
    {
      usage: 'list',
      about: 'list signing keys, newest first',
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
      about: 'create the next key; it is published at once and signs in ten minutes',
      options: { '--leaked': 'sign with the new key at once and withdraw all others' },
      help: `
With --leaked every access token is refused: here within a second, by other services when they fetch the JWKS again
(five minutes at most). Sessions stay: clients refresh and go on.`,
      makesSecret: true,
      act: ({ call }, { options: { leaked } }) => call('POST', '/admin/keys/rotate', leaked ? { leaked } : {}),
      text: (key, { options: { leaked } }) =>
        (leaked ? 'All other keys are withdrawn, and every access token that was out is refused.\n' : '') +
        fields({ kid: key.kid, alg: key.alg, state: key.state, 'signs from': timeOf('signs_from')(key) }),
    },
    {
      usage: 'withdraw <kid>',
      about: 'withdraw a key that no longer signs; its tokens are refused',
      act: ({ call }, { args: [kid = ''] }) => call('DELETE', `/admin/keys/${encodeURIComponent(kid)}`),
      json: (_answer, { args: [kid] }) => ({ kid, withdrawn: true }),
      text: () => 'The key is withdrawn, and what it signed is refused.',
    },
  ],
}
