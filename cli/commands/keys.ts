import type { Json } from '../admin.ts'
import type { Group } from '../command.ts'
import { fields, timeOf } from '../output.ts'

export const keys: Group = {
  name: 'keys',
  about: 'manage the keys that sign tokens',
  commands: [
    {
      usage: 'list',
      about: 'list signing keys: of access tokens first, the newest of each algorithm first',
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
      about: 'create the next key of each algorithm; it is published at once and signs in ten minutes',
      options: { '--leaked': 'sign with the new keys at once and withdraw all others' },
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
      usage: 'revoke <kid>',
      alias: 'withdraw',
      about: 'refuse what a key signed, at once; where it was the one that signs, a new one does',
      help: `
For a key that was stolen. What it signed is refused by the service within a second, and so by services with
latchkey-verify that follow revocations; others refuse it when they fetch the JWKS again, or the token expires. Sessions
stay: clients refresh and go on, and nobody has to log in.`,
      makesSecret: true,
      async act({ call }, { args: [kid = ''] }) {
        const before = await call('GET', '/admin/keys')
        const revoked = before.keys.find((key: Json) => key.kid === kid)
        await call('DELETE', `/admin/keys/${encodeURIComponent(kid)}`)
        const after = await call('GET', '/admin/keys')
        const isSigning = ({ alg, state }: Json) => state === 'current' && alg === (revoked ?? after.keys[0])?.alg
        return { kid, revoked: true, signing: after.keys.find(isSigning)?.kid }
      },
      text: ({ signing }) =>
        `The key is revoked: what it signed is refused. Nobody has to log in again.\n${fields({ signing })}`,
    },
    {
      usage: 'remove',
      about: 'begin with a new secret, where the one that sealed the keys is lost',
      options: {
        '--all': { about: 'all keys that no secret opens any more', isRequired: true },
        '--lost-secret': { about: 'that AUTH_SECRET is lost for good', isRequired: true },
        '--yes': 'skip the confirmation',
      },
      help: `
For a service that does not start any more: "AUTH_SECRET: expected the secret". It says what people will notice and asks,
refuses while the secret opens the key that signs, and makes a secret where an embedded store has none. Stop every
process first: one that still runs knows the secret, and would make a key under it.`,
      run: async (io, options, output) => (await import('../lost-secret.ts')).removeLostKeys(io, options, output),
    },
  ],
}
