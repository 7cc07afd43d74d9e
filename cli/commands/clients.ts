import { parseDuration } from '../../config/durations.ts'
import type { Json } from '../admin.ts'
import type { AdminCommand, Given, Group } from '../command.ts'
import { CommandError, exitCodes } from '../exit.ts'
import { fields, printable, timeOf, when } from '../output.ts'
import { memberOptions, membersFrom } from './client-options.ts'

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

/** Of an app that people sign in to in a browser, what there is. */
function describeApp(client: Json): Record<string, string | undefined> {
  const { name, redirect_uris, post_logout_redirect_uris, backchannel_logout_uri } = client
  const { pkce, consent, id_token_alg, require_par } = client
  if (redirect_uris.length === 0) return { name }
  return {
    name,
    redirect_uris: list(redirect_uris),
    post_logout_redirect_uris: post_logout_redirect_uris.join(' ') || undefined,
    backchannel_logout_uri,
    pkce,
    consent,
    id_token_alg,
    require_par: require_par ? 'yes' : 'no',
  }
}

function describe(client: Json): string {
  const { client_id, type, grants, scopes, audience, introspect, ...rest } = client
  const { first_party, declared, created_at, disabled_at, secrets } = rest
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
    first_party: first_party ? 'yes' : 'no',
    ...describeApp(client),
    declared: declared ? 'in AUTH_CLIENTS_FILE' : undefined,
    created: when(created_at),
    disabled: disabled_at === undefined ? 'no' : `since ${when(disabled_at)}`,
    'secrets of': secretTimes.join(', ') || undefined,
  })
}

const add: AdminCommand = {
  usage: 'add <id>',
  about: 'create a client; the secret of a confidential one is shown once',
  options: {
    '--public': 'for a browser or mobile app, which cannot keep a secret',
    ...memberOptions,
    '--introspect': 'may introspect tokens for its audience, and follow revocations',
    '--introspect-all': { about: 'may introspect all tokens', conflicts: 'introspect' },
    '--first-party':
      'an app of your own that asks for passwords itself, by /challenge; grants authorization_code and refresh_token by default',
    '--require-par': 'has to push its requests for authorization (RFC 9126)',
  },
  help: `
Examples
  latchkey client add orders --scope files:read --audience https://files.example.com
  latchkey client add files --introspect --audience https://files.example.com
  latchkey client add app --public --first-party
  latchkey client add shop --name Shop --redirect-uri https://shop.example.com/callback
  latchkey client add desktop --public --redirect-uri http://127.0.0.1/callback
  latchkey client add old-app --public --grant password --grant refresh_token`,
  mayMakeStore: true,
  act: ({ call }, { args: [client_id], options }) =>
    call('POST', '/admin/clients', {
      client_id,
      type: options['public'] ? 'public' : 'confidential',
      ...membersFrom(options),
      introspect: options['introspectAll'] ? 'all' : options['introspect'] === true,
      ...(options['firstParty'] === true && { first_party: true }),
      ...(options['requirePar'] === true && { require_par: true }),
    }),
  text: (made) => describe(made) + (made.client_secret ? `\n\n${secretField(made.client_secret)}` : ''),
}

const change: AdminCommand = {
  usage: 'change <id>',
  about: 'change what is named, and leave the rest; what can be repeated is replaced as a whole',
  options: memberOptions,
  help: `
Examples
  latchkey client change shop --redirect-uri https://shop.example.com/callback --redirect-uri https://new.example.com/callback
  latchkey client change shop --name 'The Shop' --consent implicit`,
  act: ({ call }, given) => call('PATCH', pathOf(given), membersFrom(given.options)),
  text: describe,
}

const rotateSecret: AdminCommand = {
  usage: 'rotate-secret <id>',
  about: 'create a new secret, shown once',
  options: {
    '--overlap <duration>': 'how long the old secret stays valid, 24h by default',
    '--leaked': { about: 'refuse the old secret and its access tokens at once', conflicts: 'overlap' },
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
  about: 'manage clients, which request tokens',
  commands: [
    add,
    {
      usage: 'list',
      about: 'list clients by id; the built-in first-party only once it was created',
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
      about: 'show a client',
      act: ({ call }, given) => call('GET', pathOf(given)),
      text: describe,
    },
    change,
    rotateSecret,
    switching('disable', 'disable a client and refuse its tokens', 'disabled, and its tokens are refused'),
    switching('enable', 'enable a disabled client', 'enabled'),
    {
      usage: 'delete <id>',
      about: 'delete a client and refuse its tokens',
      find: ({ call }, id) => call('GET', `/admin/clients/${encodeURIComponent(id)}`),
      confirm: (given) => `Delete the client ${nameOf(given)} for good?`,
      act: ({ call }, given) => call('DELETE', pathOf(given)),
      json: (_answer, { args: [client_id] }) => ({ client_id, deleted: true }),
      text: (_answer, given) => `${nameOf(given)} is gone.`,
    },
  ],
}
