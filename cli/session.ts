import type { Command } from 'commander'
import { administering } from './administration.ts'

/** `latchkey session …` */
export function addSessionCommands(program: Command): void {
  program
    .command('session')
    .description('end single sessions; "user sessions" lists them')
    .command('end')
    .description('end one session')
    .argument('<id>')
    .option('--json', 'one JSON document')
    .action(
      administering(async ({ call }, output, _options, id) => {
        await call('DELETE', `/admin/sessions/${encodeURIComponent(id as string)}`)
        output.print(output.isJson ? JSON.stringify({ id, ended: true }) : 'The session has ended.')
      }),
    )
}
