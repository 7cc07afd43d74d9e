import type { Json } from '../admin.ts'
import type { Given, Group } from '../command.ts'
import { printable, timeOf } from '../output.ts'
import { findUser } from './find-user.ts'

const pathOf = ({ found }: Given) => `/admin/users/${found.id}/factors`

/** The second factors of a user, as people read them. */
export function factorsOf(factors: Json[]): string {
  const count = (kind: string) => factors.filter((factor) => factor.kind === kind).length
  const [apps, passkeys] = [count('totp'), count('webauthn')]
  const codes = factors.find(({ kind }) => kind === 'recovery_code')
  const counts = [
    apps > 0 && (apps === 1 ? 'an authenticator app' : `${apps} authenticator apps`),
    passkeys > 0 && (passkeys === 1 ? 'a passkey' : `${passkeys} passkeys`),
    codes && `${codes.left} recovery codes`,
  ]
  return counts.filter(Boolean).join(', ') || 'none'
}

export const factors: Group = {
  name: 'factors',
  about: 'list or reset the second factors of a user',
  commands: [
    {
      usage: 'list <name or id>',
      about: 'list authenticator apps, passkeys and recovery codes of a user',
      find: findUser,
      list: (given) => ({
        path: pathOf(given),
        member: 'factors',
        columns: {
          kind: 'kind',
          name: ({ name, left }) => (left === undefined ? name : `${name} (${left} left)`),
          id: 'id',
          created: timeOf('created_at'),
          'last used': timeOf('used_at'),
        },
      }),
    },
    {
      usage: 'reset <name or id>',
      about: 'remove all second factors of a user who has lost them, and end all sessions',
      help: `
The password is good as before: be sure that it is the user who asks. Where it may be known to others, set another one, by
"latchkey user set-password".

Examples
  latchkey user factors reset ada --yes`,
      find: findUser,
      confirm: ({ found }) => `Remove all second factors of ${printable(found.username)} (${found.id})?`,
      async act({ call }, given) {
        const { factors } = await call('GET', pathOf(given))
        await call('DELETE', pathOf(given))
        return { removed: factors.length }
      },
      json: ({ removed }, { found: { id, username } }) => ({ id, username, removed }),
      text: ({ removed }, { found }) =>
        removed > 0
          ? `${printable(found.username)} has no second factor any more, and is logged out everywhere.`
          : `${printable(found.username)} had none: nothing was done.`,
    },
  ],
}
