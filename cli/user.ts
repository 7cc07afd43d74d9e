import type { Command } from 'commander'
import { isUuid } from '../domain/ids.ts'
import { type Administration, administering, type Json, printList } from './administration.ts'
import { confirm, type PasswordOptions, passwordHelp, readNewPassword } from './ask.ts'
import { CommandError, exitCodes } from './exit.ts'
import { fields, type Output, printable, when } from './output.ts'

const collect = (value: string, before: string[] = []) => [...before, value]

/**
 * The user that a name or an id stands for. Anybody may choose the id of another for a name: where it could be both, nothing is guessed.
 *
 * @throws {CommandError} when there is none
 */
async function find({ call }: Administration, nameOrId: string): Promise<Json> {
  const { users } = await call('GET', `/admin/users?username=${encodeURIComponent(nameOrId)}`)
  const [named] = users
  const identified = isUuid(nameOrId) ? await call('GET', `/admin/users/${nameOrId}`).catch(ignoreRefusal) : undefined
  if (named && identified) {
    const others = `that of ${identified.username}, and the name of ${named.id}`
    throw new CommandError(`This is an id, ${others}: write ${identified.username} or ${named.id}`, exitCodes.problems)
  }
  if (named || identified) return named ?? identified
  throw new CommandError(`There is no user ${printable(nameOrId)}`, exitCodes.problems)
}

function ignoreRefusal(error: unknown): undefined {
  if (!(error instanceof CommandError && error.exitCode === exitCodes.problems)) throw error
}

/** A line for people, or how the user is now. */
async function report({ call }: Administration, output: Output, { id }: Json, line: string): Promise<void> {
  output.print(output.isJson ? JSON.stringify(await call('GET', `/admin/users/${id}`)) : line)
}

const rolesOf = ({ roles }: Json) => (roles.length > 0 ? roles.join(', ') : 'none')
const isOrIsNot = { disable: 'is disabled, and logged out everywhere', enable: 'can log in again' }

/** `latchkey user …` */
export function addUserCommands(program: Command): void {
  const user = program.command('user').description('make, look at and change users')

  user
    .command('add')
    .description('make a user; also the first administrator, before the service was ever started')
    .argument('<name>')
    .option('--role <role>', 'a role that it gets, admin to administer Latchkey; can be repeated', collect)
    .option('--password-stdin', 'read the password from stdin')
    .option('--generate', 'make a strong password and print it')
    .option('--json', 'one JSON document')
    .addHelpText(
      'after',
      `\n${passwordHelp}\n
Examples
  latchkey user add ada --role admin
  latchkey user add ada --password-stdin < password.txt
  latchkey user add ada --generate --json`,
    )
    .action(
      administering(
        async ({ call, config }, output, options: PasswordOptions & { role?: string[]; json?: true }, username) => {
          const password = await readNewPassword(options, config.AUTH_PASSWORD_MIN)
          const made = await call('POST', '/admin/users', { username, password, roles: options.role ?? [] })
          const shown = options.generate && { password }
          if (output.isJson) return output.print(JSON.stringify({ ...made, ...shown }))
          output.print(`${made.username} is made.\n${fields({ id: made.id, roles: rolesOf(made), ...shown })}`)
        },
        { mayMakeStore: true },
      ),
    )

  user
    .command('list')
    .description('all users, by name')
    .option('--json', 'one JSON document')
    .action(
      administering((admin, output) =>
        printList(admin, output, {
          path: '/admin/users',
          member: 'users',
          head: ['name', 'id', 'roles', 'created', 'disabled'],
          cells: ({ username, id, roles, created_at, disabled_at }) => [
            username,
            id,
            roles.join(', '),
            when(created_at),
            when(disabled_at),
          ],
        }),
      ),
    )

  user
    .command('show')
    .description('one user, and how many sessions there are')
    .argument('<name or id>')
    .option('--json', 'one JSON document')
    .action(
      administering(async (admin, output, _options, nameOrId) => {
        const found = await find(admin, nameOrId as string)
        let sessions = 0
        for await (const page of admin.pages(`/admin/users/${found.id}/sessions`, 'sessions')) sessions += page.length
        if (output.isJson) return output.print(JSON.stringify({ ...found, sessions }))
        const { username: name, id, created_at, disabled_at } = found
        const disabled = disabled_at === undefined ? 'no' : `since ${when(disabled_at)}`
        output.print(fields({ name, id, roles: rolesOf(found), created: when(created_at), disabled, sessions }))
      }),
    )

  for (const act of ['disable', 'enable'] as const) {
    user
      .command(act)
      .description(
        act === 'disable'
          ? 'end the sessions of a user, who cannot log in any more'
          : 'let a disabled user log in again',
      )
      .argument('<name or id>')
      .option('--json', 'one JSON document')
      .action(
        administering(async (admin, output, _options, nameOrId) => {
          const found = await find(admin, nameOrId as string)
          await admin.call('POST', `/admin/users/${found.id}/${act}`)
          await report(admin, output, found, `${found.username} ${isOrIsNot[act]}.`)
        }),
      )
  }

  user
    .command('delete')
    .description('delete a user, with all sessions')
    .argument('<name or id>')
    .option('--yes', 'do not ask')
    .option('--json', 'one JSON document')
    .action(
      administering(async (admin, output, options: { yes?: true; json?: true }, nameOrId) => {
        const { id, username } = await find(admin, nameOrId as string)
        await confirm(`Delete ${username} (${id}) for good?`, options)
        await admin.call('DELETE', `/admin/users/${id}`)
        output.print(output.isJson ? JSON.stringify({ id, username, deleted: true }) : `${username} is gone.`)
      }),
    )

  user
    .command('set-password')
    .description('set a password; all sessions end')
    .argument('<name or id>')
    .option('--password-stdin', 'read the password from stdin')
    .option('--generate', 'make a strong password and print it')
    .option('--json', 'one JSON document')
    .addHelpText('after', `\n${passwordHelp}`)
    .action(
      administering(async (admin, output, options: PasswordOptions & { json?: true }, nameOrId) => {
        const { id, username } = await find(admin, nameOrId as string)
        const password = await readNewPassword(options, admin.config.AUTH_PASSWORD_MIN)
        await admin.call('PUT', `/admin/users/${id}/password`, { password })
        const shown = options.generate && { password }
        if (output.isJson) return output.print(JSON.stringify({ id, username, ...shown }))
        output.print(
          `${username} has a new password, and is logged out everywhere.${shown ? `\n${fields(shown)}` : ''}`,
        )
      }),
    )

  user
    .command('set-roles')
    .description('set the roles, none to take all away; when one is taken away, all sessions end')
    .argument('<name or id>')
    .argument('[roles...]')
    .option('--json', 'one JSON document')
    .addHelpText('after', '\nExamples\n  latchkey user set-roles ada admin editor\n  latchkey user set-roles ada')
    .action(
      administering(async (admin, output, _options, nameOrId, ...roles) => {
        const found = await find(admin, nameOrId as string)
        await admin.call('PUT', `/admin/users/${found.id}/roles`, { roles })
        await report(admin, output, found, `The roles of ${found.username}: ${rolesOf({ roles })}.`)
      }),
    )

  user
    .command('sessions')
    .description('the live sessions of a user, newest first')
    .argument('<name or id>')
    .option('--json', 'one JSON document')
    .action(
      administering(async (admin, output, _options, nameOrId) => {
        const { id } = await find(admin, nameOrId as string)
        await printList(admin, output, {
          path: `/admin/users/${id}/sessions`,
          member: 'sessions',
          head: ['id', 'client', 'created', 'last used', 'address', 'user agent'],
          cells: (row) => [
            row.id,
            row.client_id,
            when(row.created_at),
            when(row.last_used_at),
            row.address,
            row.user_agent,
          ],
        })
      }),
    )

  user
    .command('end-sessions')
    .description('log a user out everywhere')
    .argument('<name or id>')
    .option('--json', 'one JSON document')
    .action(
      administering(async (admin, output, _options, nameOrId) => {
        const found = await find(admin, nameOrId as string)
        await admin.call('DELETE', `/admin/users/${found.id}/sessions`)
        await report(admin, output, found, `${found.username} is logged out everywhere.`)
      }),
    )
}
