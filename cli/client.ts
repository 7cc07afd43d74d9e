import { type Command, Option } from 'commander'
import { parseDuration } from '../config/durations.ts'
import { administering, type Json, printList } from './administration.ts'
import { confirm } from './ask.ts'
import { CommandError, exitCodes } from './exit.ts'
import { fields, printable, when } from './output.ts'

const collect = (value: string, before: string[] = []) => [...before, value]
const pathOf = (id: string) => `/admin/clients/${encodeURIComponent(id)}`
const list = (names: string[]) => (names.length > 0 ? names.join(' ') : 'none')

/** A duration as in the settings. @throws {CommandError} usage */
function readOverlap(text: string): number {
  const overlap = parseDuration(text)
  if (overlap) return overlap.seconds
  throw new CommandError(
    '--overlap: expected a duration such as 90s, 10m, 24h or 7d; --leaked for none',
    exitCodes.usage,
  )
}

function describe({ client_id, type, grants, scopes, audience, introspect, ...rest }: Json): string {
  const disabled = rest.disabled_at === undefined ? 'no' : `since ${when(rest.disabled_at)}`
  const secrets = rest.secrets.map(
    ({ created_at, expires_at }: Json) => when(created_at) + (expires_at ? ` until ${when(expires_at)}` : ''),
  )
  return fields({
    ...{ client_id, type, grants: list(grants), scopes: list(scopes) },
    audience: audience.length > 0 ? audience.join(' ') : 'AUTH_AUDIENCE',
    introspect: introspect === 'all' ? 'all' : introspect ? 'yes' : 'no',
    ...(rest.declared && { declared: 'in AUTH_CLIENTS_FILE' }),
    ...{ created: when(rest.created_at), disabled },
    ...(secrets.length > 0 && { 'secrets of': secrets.join(', ') }),
  })
}

interface AddOptions {
  public?: true
  grant?: string[]
  scope?: string[]
  audience?: string[]
  introspect?: true
  introspectAll?: true
  json?: true
}

/** `latchkey client …` */
export function addClientCommands(program: Command): void {
  const client = program.command('client').description('make, look at and change clients: who may ask for tokens')

  client
    .command('add')
    .description('make a client; the secret of a confidential one is printed now and never again')
    .argument('<id>')
    .option('--public', 'for browsers and apps, which cannot keep a secret')
    .option(
      '--grant <grant>',
      'password, refresh_token or client_credentials (when not given, if confidential); can be repeated',
      collect,
    )
    .option('--scope <scope>', 'a scope that it may ask for; can be repeated', collect)
    .option('--audience <url>', 'what its tokens are for, AUTH_AUDIENCE when not given; can be repeated', collect)
    .option('--introspect', 'it may ask about tokens that are meant for its audience, and follow revocations')
    .addOption(new Option('--introspect-all', 'it may ask about all tokens').conflicts('introspect'))
    .option('--json', 'one JSON document')
    .addHelpText(
      'after',
      `
Examples
  latchkey client add orders --scope files:read --audience https://files.example.com
  latchkey client add files --introspect --audience https://files.example.com
  latchkey client add app --public --grant password --grant refresh_token`,
    )
    .action(
      administering(
        async ({ call }, output, { grant: grants, scope: scopes, audience, ...options }: AddOptions, client_id) => {
          const given = { ...(grants && { grants }), ...(scopes && { scopes }), ...(audience && { audience }) }
          const introspect = options.introspectAll ? 'all' : options.introspect === true
          const type = options.public ? 'public' : 'confidential'
          const made = await call('POST', '/admin/clients', { client_id, type, ...given, introspect })
          if (output.isJson) return output.print(JSON.stringify(made))
          output.print(describe(made))
          if (made.client_secret) output.print(`\n${fields({ 'client_secret, shown this once': made.client_secret })}`)
        },
        { mayMakeStore: true },
      ),
    )

  client
    .command('list')
    .description('all clients, by id; first-party is built in, and listed once somebody has made one of the name')
    .option('--json', 'one JSON document')
    .action(
      administering((admin, output) =>
        printList(admin, output, {
          path: '/admin/clients',
          member: 'clients',
          head: ['id', 'type', 'grants', 'scopes', 'created', 'disabled'],
          cells: (row) => [
            row.client_id,
            row.type,
            row.grants.join(' '),
            row.scopes.join(' '),
            when(row.created_at),
            when(row.disabled_at),
          ],
        }),
      ),
    )

  client
    .command('show')
    .description('one client')
    .argument('<id>')
    .option('--json', 'one JSON document')
    .action(
      administering(async ({ call }, output, _options, id) => {
        const found = await call('GET', pathOf(id as string))
        output.print(output.isJson ? JSON.stringify(found) : describe(found))
      }),
    )

  client
    .command('rotate-secret')
    .description('make another secret, printed now and never again')
    .argument('<id>')
    .option('--overlap <duration>', 'how long the secret before stays good; 24h when not given')
    .addOption(
      new Option('--leaked', 'the secret before is refused at once, and its access tokens too').conflicts('overlap'),
    )
    .option('--json', 'one JSON document')
    .addHelpText(
      'after',
      '\nExamples\n  latchkey client rotate-secret orders --overlap 7d\n  latchkey client rotate-secret orders --leaked',
    )
    .action(
      administering(async ({ call }, output, options: { overlap?: string; leaked?: true; json?: true }, id) => {
        const overlap = options.leaked ? 0 : options.overlap === undefined ? undefined : readOverlap(options.overlap)
        const answer = await call(
          'POST',
          `${pathOf(id as string)}/rotate-secret`,
          overlap === undefined ? {} : { overlap_seconds: overlap },
        )
        if (output.isJson) return output.print(JSON.stringify(answer))
        output.print(fields({ 'client_secret, shown this once': answer.client_secret }))
      }),
    )

  for (const act of ['disable', 'enable'] as const) {
    client
      .command(act)
      .description(act === 'disable' ? 'refuse a client, and its tokens' : 'let a disabled client in again')
      .argument('<id>')
      .option('--json', 'one JSON document')
      .action(
        administering(async ({ call }, output, _options, id) => {
          await call('POST', `${pathOf(id as string)}/${act}`)
          const line = `${printable(id as string)} is ${act}d${act === 'disable' ? ', and its tokens are refused' : ''}.`
          output.print(output.isJson ? JSON.stringify(await call('GET', pathOf(id as string))) : line)
        }),
      )
  }

  client
    .command('delete')
    .description('delete a client; its tokens are refused')
    .argument('<id>')
    .option('--yes', 'do not ask')
    .option('--json', 'one JSON document')
    .action(
      administering(async ({ call }, output, options: { yes?: true; json?: true }, id) => {
        await call('GET', pathOf(id as string))
        await confirm(`Delete the client ${printable(id as string)} for good?`, options)
        await call('DELETE', pathOf(id as string))
        output.print(
          output.isJson ? JSON.stringify({ client_id: id, deleted: true }) : `${printable(id as string)} is gone.`,
        )
      }),
    )
}
