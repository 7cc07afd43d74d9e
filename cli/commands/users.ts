import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { Json } from '../admin.ts'
import type { AdminCommand, FreeCommand, Given, Group } from '../command.ts'
import { fields, timeOf, when } from '../output.ts'
import { factors, factorsOf } from './factors.ts'
import { findUser } from './find-user.ts'
import { invitations } from './invitations.ts'
import { toMany } from './many-users.ts'
import { addressOf, userEdits } from './user-edits.ts'

const pathOf = ({ found }: Given) => `/admin/users/${found.id}`
/** For `--json`: the user as it is after a change. */
const asItIsNow: AdminCommand['json'] = (_answer, given, { call }) => call('GET', pathOf(given))
const rolesOf = ({ roles }: Json): string => roles.join(', ') || 'none'
/** A password that nobody has seen yet. */
const generated = ({ options, password }: Given) => (options['generate'] ? { password } : {})

const add: AdminCommand = {
  usage: 'add <name>',
  about: 'create a user; also the first administrator, before the first start',
  options: {
    '--role <role>': {
      about: 'a role, such as admin; repeatable',
      isRepeatable: true,
    },
  },
  help: `
Examples
  latchkey user add ada --role admin
  latchkey user add ada --password-stdin < password.txt
  latchkey user add ada --generate --json`,
  mayMakeStore: true,
  takesPassword: true,
  act: ({ call }, { args: [username], options, password }) =>
    call('POST', '/admin/users', { username, password, roles: options['role'] ?? [] }),
  json: (made, given) => ({ ...made, ...generated(given) }),
  text: (made, given) =>
    `${made.username} is made.\n${fields({ id: made.id, roles: rolesOf(made), ...generated(given) })}`,
}

const show: AdminCommand = {
  usage: 'show <name or id>',
  about: 'show a user, the number of sessions, and the second factors',
  find: findUser,
  async act({ call, pages }, given) {
    const user = await call('GET', pathOf(given))
    let sessions = 0
    for await (const page of pages(`${pathOf(given)}/sessions`, 'sessions')) sessions += page.length
    const { factors } = await call('GET', `${pathOf(given)}/factors`)
    return { ...user, sessions, factors }
  },
  text: (user) =>
    fields({
      name: user.username,
      id: user.id,
      roles: rolesOf(user),
      address: addressOf(user),
      language: user.locale,
      created: when(user.created_at),
      from: user.source && `${user.source}, as ${user.external_id}`,
      disabled: user.disabled_at === undefined ? 'no' : `since ${when(user.disabled_at)}`,
      sessions: user.sessions,
      'second factor': factorsOf(user.factors),
      'failed logins': user.failed_logins
        ? `${user.failed_logins.count} since the last good one, at ${when(user.failed_logins.last_at)} the latest`
        : 'none since the last good one',
    }),
}

const importUsers: FreeCommand = {
  usage: 'import <file...>',
  about: 'take the users of another system, with the hashes of their passwords; safe to repeat',
  options: {
    '--from <system>': {
      about: 'latchkey, auth0, firebase, keycloak, django, wordpress, supabase, better-auth or cognito',
      isRequired: true,
    },
    '--dry-run': 'say of each row what would become of it, and write nothing',
    '--on-conflict <action>': 'skip users who are there already (default), update those of an earlier import, or fail',
    '--wrap': 'put argon2id over hashes that are cheap to guess at, at once',
    '--report <file>': 'write each row that is not taken to a file, as JSON Lines, in the place of a summary',
    '--firebase-config <file>': 'the hash_config of a Firebase project, as its console shows it',
  },
  help: `
"-" is stdin. Several files are read one after the other; of better-auth, "user" and "account". docs/moving-in.md says for
each system how to get them.

Examples
  latchkey user import users.ndjson --from auth0 --dry-run
  latchkey user import users.ndjson --from auth0 --report not-taken.jsonl

Exit codes
  0 all rows are taken   3 some are not`,
  run: async (...given) => (await import('../user-import.ts')).userImport(...given),
}

const exportUsers: FreeCommand = {
  usage: 'export [file]',
  about: 'write all users as JSON Lines, which "user import --from latchkey" takes; stdout by default',
  options: {
    '--with-hashes': 'with the hashes of the passwords; without them, users who are imported have to reset theirs',
    '--yes': 'skip the confirmation',
  },
  hasNoJson: true,
  run: async (...given) => (await import('../user-export.ts')).userExport(...given),
}

export const users: Group = {
  name: 'user',
  about: 'manage users',
  commands: [
    add,
    ...invitations,
    {
      usage: 'list',
      about: 'list users by name; with --created-after alone, the oldest first',
      options: {
        '--prefix <text>': 'only users whose names begin so',
        '--created-after <time>': 'only users made after a time, such as 2026-11-21T09:00:00Z, or since 12h or 30d ago',
      },
      list: ({ options: { prefix, createdAfter } }) => ({
        path: `/admin/users?${new URLSearchParams(omitUndefined({ limit: '100', prefix, created_after: createdAfter }))}`,
        member: 'users',
        columns: {
          name: 'username',
          id: 'id',
          roles: ({ roles }) => roles.join(', '),
          created: timeOf('created_at'),
          disabled: timeOf('disabled_at'),
        },
      }),
    },
    show,
    toMany('disable', 'disable users and end all their sessions', 'is disabled, and logged out everywhere'),
    {
      usage: 'enable <name or id>',
      about: 'enable a disabled user',
      find: findUser,
      act: ({ call }, given) => call('POST', `${pathOf(given)}/enable`),
      json: asItIsNow,
      text: (_answer, { found }) => `${found.username} can log in again.`,
    },
    {
      usage: 'delete <name or id>',
      about: 'delete a user and all sessions',
      find: findUser,
      confirm: ({ found }) => `Delete ${found.username} (${found.id}) for good?`,
      act: ({ call }, given) => call('DELETE', pathOf(given)),
      json: (_answer, { found: { id, username } }) => ({ id, username, deleted: true }),
      text: (_answer, { found }) => `${found.username} is gone.`,
    },
    {
      usage: 'set-password <name or id>',
      about: 'set a password and end all sessions',
      find: findUser,
      takesPassword: true,
      act: ({ call }, given) => call('PUT', `${pathOf(given)}/password`, { password: given.password }),
      json: (_answer, given) => ({ id: given.found.id, username: given.found.username, ...generated(given) }),
      text(_answer, given) {
        const line = `${given.found.username} has a new password, and is logged out everywhere.`
        return `${line}\n${fields(generated(given))}`.trimEnd()
      },
    },
    {
      usage: 'set-roles <name or id> [roles...]',
      about: 'replace the roles, or remove all; removing one ends all sessions',
      help: '\nExamples\n  latchkey user set-roles ada admin editor\n  latchkey user set-roles ada',
      find: findUser,
      act: ({ call }, given) => call('PUT', `${pathOf(given)}/roles`, { roles: given.args.slice(1) }),
      json: asItIsNow,
      text: (_answer, { found, args: [, ...roles] }) => `The roles of ${found.username}: ${rolesOf({ roles })}.`,
    },
    ...userEdits,
    {
      usage: 'sessions <name or id>',
      about: 'list the live sessions of a user, newest first',
      find: findUser,
      list: (given) => ({
        path: `${pathOf(given)}/sessions`,
        member: 'sessions',
        columns: {
          id: 'id',
          client: 'client_id',
          created: timeOf('created_at'),
          'last used': timeOf('last_used_at'),
          address: 'address',
          'user agent': 'user_agent',
        },
      }),
    },
    factors,
    toMany('end-sessions', 'end all sessions of users', 'is logged out everywhere'),
    importUsers,
    exportUsers,
  ],
}

export const sessions: Group = {
  name: 'session',
  about: 'end a session; "user sessions" lists them',
  commands: [
    {
      usage: 'end <id>',
      about: 'end a session',
      act: ({ call }, { args: [id = ''] }) => call('DELETE', `/admin/sessions/${encodeURIComponent(id)}`),
      json: (_answer, { args: [id] }) => ({ id, ended: true }),
      text: () => 'The session has ended.',
    },
  ],
}
