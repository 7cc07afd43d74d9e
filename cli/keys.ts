import type { Command } from 'commander'
import { administering, printList } from './administration.ts'
import { fields, when } from './output.ts'

/** `latchkey keys …` */
export function addKeysCommands(program: Command): void {
  const keys = program.command('keys').description('look at and replace the keys that access tokens are signed with')

  keys
    .command('list')
    .description('the signing keys, newest first')
    .option('--json', 'one JSON document')
    .action(
      administering((admin, output) =>
        printList(admin, output, {
          path: '/admin/keys',
          member: 'keys',
          head: ['kid', 'alg', 'state', 'created', 'signs from', 'retires'],
          cells: (row) => [
            row.kid,
            row.alg,
            row.state,
            when(row.created_at),
            when(row.signs_from),
            when(row.retires_at),
          ],
        }),
      ),
    )

  keys
    .command('rotate')
    .description('make the next key now; it is published at once and signs in ten minutes')
    .option('--leaked', 'a key has leaked: the new one signs at once, all others are withdrawn')
    .option('--json', 'one JSON document')
    .addHelpText(
      'after',
      `
With --leaked every access token is refused, here within a second and by other services when they fetch the JWKS again (five
minutes at most). Sessions stay: clients refresh and go on.`,
    )
    .action(
      administering(
        async ({ call }, output, { leaked }: { leaked?: true; json?: true }) => {
          const key = await call('POST', '/admin/keys/rotate', leaked ? { leaked } : {})
          if (output.isJson) return output.print(JSON.stringify(key))
          if (leaked) output.print('All other keys are withdrawn, and every access token that was out is refused.')
          output.print(fields({ kid: key.kid, alg: key.alg, state: key.state, 'signs from': when(key.signs_from) }))
        },
        { makesSecret: true },
      ),
    )

  keys
    .command('withdraw')
    .description('take a key away that does not sign any more; what it signed is refused')
    .argument('<kid>')
    .option('--json', 'one JSON document')
    .action(
      administering(async ({ call }, output, _options, kid) => {
        await call('DELETE', `/admin/keys/${encodeURIComponent(kid as string)}`)
        output.print(
          output.isJson
            ? JSON.stringify({ kid, withdrawn: true })
            : 'The key is withdrawn, and what it signed is refused.',
        )
      }),
    )
}
