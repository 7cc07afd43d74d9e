import { parseDuration } from '../../config/durations.ts'
import type { Json } from '../admin.ts'
import type { AdminCommand, Given, Group } from '../command.ts'
import { CommandError, exitCodes } from '../exit.ts'
import { fields, printable, timeOf, when } from '../output.ts'

const pathOf = ({ args: [id = ''] }: Given) => `/admin/clients/${encodeURIComponent(id)}`
const nameOf = ({ args: [id = ''] }: Given) => printable(id)
const list = (names: string[], none = 'none') => names.join(' ') || none
const secretField = (secret: string) => fields({ 'client_secret, shown this once': secret })

/** @throws {CommandError} usage */
function readOverlap(text: string): number {
  const duration = parseDuration(text)
  if (duration) return duration.seconds
  const expected = 'expected a duration such as 90s, 10m, 24h or 7d; --leaked for none'
  throw new CommandError(`--overlap: ${expected}`, exitCodes.usage)
}

function describe(client: Json): string {
  const { client_id, type, grants, scopes, audience, introspect, declared, created_at, disabled_at, secrets } = client
  const secretTimes = secrets.map(
    ({ created_at, expires_at }: Json) => when(created_at) + (expires_at ? ` until ${when(expires_at)}` : ''),
  )
  return fields({
    client_id,
    type,
    grants: list(grants),
    scopes: list(scopes),
    audience: list(audience, 'AUTH_AUDIENCE'),
    introspect: introspect === 'all' ? 'all' : introspect ? 'yes' : 'no',
    declared: declared ? 'in AUTH_CLIENTS_FILE' : undefined,
    created: when(created_at),
    disabled: disabled_at === undefined ? 'no' : `since ${when(disabled_at)}`,
    'secrets of': secretTimes.join(', ') || undefined,
  })
}

const add: AdminCommand = {
  usage: 'add <id>',
  about: 'make a client; the secret of a confidential one is printed now and never again',
  options: {
    '--public': 'for browsers and apps, which cannot keep a secret',
    '--grant <grant>': {
      about: 'password, refresh_token or client_credentials (when not given, if confidential); can be repeated',
      isRepeatable: true,
    },
    '--scope <scope>': { about: 'a scope that it may ask for; can be repeated', isRepeatable: true },
    '--audience <url>': {
      about: 'what its tokens are for, AUTH_AUDIENCE when not given; can be repeated',
      isRepeatable: true,
    },
    '--introspect': 'it may ask about tokens that are meant for its audience, and follow revocations',
    '--introspect-all': { about: 'it may ask about all tokens', conflicts: 'introspect' },
  },
  help: `
Examples
  latchkey client add orders --scope files:read --audience https://files.example.com
  latchkey client add files --introspect --audience https://files.example.com
  latchkey client add app --public --grant password --grant refresh_token`,
  mayMakeStore: true,
  act: ({ call }, { args: [client_id], options }) =>
    call('POST', '/admin/clients', {
      client_id,
      type: options['public'] ? 'public' : 'confidential',
      grants: options['grant'],
      scopes: options['scope'],
      audience: options['audience'],
      introspect: options['introspectAll'] ? 'all' : options['introspect'] === true,
    }),
  text: (made) => describe(made) + (made.client_secret ? `\n\n${secretField(made.client_secret)}` : ''),
}

const rotateSecret: AdminCommand = {
  usage: 'rotate-secret <id>',
  about: 'make another secret, printed now and never again',
  options: {
    '--overlap <duration>': 'how long the secret before stays good; 24h when not given',
    '--leaked': { about: 'the secret before is refused at once, and its access tokens too', conflicts: 'overlap' },
  },
  help: `
Examples
  latchkey client rotate-secret orders --overlap 7d
  latchkey client rotate-secret orders --leaked`,
  async act({ call }, given) {
    const { overlap, leaked } = given.options
    const overlap_seconds = leaked ? 0 : overlap === undefined ? undefined : readOverlap(overlap)
    return call('POST', `${pathOf(given)}/rotate-secret`, { overlap_seconds })
  },
  text: ({ client_secret }) => secretField(client_secret),
}

/** Disables or enables; `--json` shows the client as it is then. */
const switching = (act: 'disable' | 'enable', about: string, done: string): AdminCommand => ({
  usage: `${act} <id>`,
  about,
  act: ({ call }, given) => call('POST', `${pathOf(given)}/${act}`),
  json: (_answer, given, { call }) => call('GET', pathOf(given)),
  text: (_answer, given) => `${nameOf(given)} is ${done}.`,
})

export const clients: Group = {
  name: 'client',
  about: 'make, look at and change clients: who may ask for tokens',
  commands: [
    add,
    {
      usage: 'list',
      about: 'all clients, by id; first-party is built in, and listed once somebody has made one of the name',
      list: () => ({
        path: '/admin/clients',
        member: 'clients',
        columns: {
          id: 'client_id',
          type: 'type',
          grants: ({ grants }) => grants.join(' '),
          scopes: ({ scopes }) => scopes.join(' '),
          created: timeOf('created_at'),
          disabled: timeOf('disabled_at'),
        },
      }),
    },
    {
      usage: 'show <id>',
      about: 'one client',
      act: ({ call }, given) => call('GET', pathOf(given)),
      text: describe,
    },
    rotateSecret,
    switching('disable', 'refuse a client, and its tokens', 'disabled, and its tokens are refused'),
    switching('enable', 'let a disabled client in again', 'enabled'),
    {
      usage: 'delete <id>',
      about: 'delete a client; its tokens are refused',
      find: ({ call }, id) => call('GET', `/admin/clients/${encodeURIComponent(id)}`),
      confirm: (given) => `Delete the client ${nameOf(given)} for good?`,
      act: ({ call }, given) => call('DELETE', pathOf(given)),
      json: (_answer, { args: [client_id] }) => ({ client_id, deleted: true }),
      text: (_answer, given) => `${nameOf(given)} is gone.`,
    },
  ],
}
