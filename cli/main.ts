import { Command, CommanderError, Option } from 'commander'
import { version } from '../config/version.ts'
import type { AdminCommand, FreeCommand, Group, Io } from './command.ts'
import { commands } from './commands/index.ts'
import { exitCodes } from './exit.ts'
import { createOutput } from './output.ts'

const help = `
First steps
  latchkey serve                            start the service
  latchkey user add ada --role admin        the first administrator, who can then use /admin/ as well
  latchkey client add reports --introspect  a service that asks about tokens

Exit codes
  0 ok   1 refused, not found, or problems found   64 usage error   69 store unavailable   78 invalid setting

Settings come from the environment and from .env, as for the service. Every command works beside a running service,
and takes --help and --json. docs/cli.md lists them all.`

const passwordHelp = `
The password is asked for on a terminal, read from stdin with --password-stdin (without its last line break), or
generated. It is never an argument: everyone on the machine can read those.`

/**
 * Runs `latchkey`.
 *
 * @param argv what is behind the name of the program
 * @param io as `process` has it
 * @returns the exit code
 */
export async function main(argv: string[], io: Io): Promise<number> {
  let exitCode: number = exitCodes.fine
  const program = createProgram(io, async (command, args, options) => {
    const output = createOutput(options['json'] === true, io)
    if ('run' in command) exitCode = await command.run(io, options, output, args)
    else await (await import('./admin.ts')).administer(command, { io, args, options, output })
  })
  try {
    await program.parseAsync(withIdsLast(argv), { from: 'user' })
    return exitCode
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.fine : exitCodes.usage
    const { line, exitCode } = (await import('./failure.ts')).describeFailure(error)
    io.stderr.write(`${line}\n`)
    return exitCode
  }
}

/** 256 bits in base64url, the id of a key or an invitation, may begin with a dash: then it is taken for an option. */
function withIdsLast(argv: string[]): string[] {
  const isId = (text: string) => /^-[\w-]{42}$/.test(text)
  if (argv.includes('--') || !argv.some(isId)) return argv
  return [...argv.filter((text) => !isId(text)), '--', ...argv.filter(isId)]
}

type Action = (command: AdminCommand | FreeCommand, args: string[], options: Record<string, unknown>) => Promise<void>

/** All commands of the table, as commander has them. */
export function createProgram({ stdout, stderr }: Pick<Io, 'stdout' | 'stderr'>, action: Action): Command {
  const widthOf = (stream: Io['stdout']) => (stream.isTTY ? stream.columns : undefined) as number
  const program = new Command('latchkey')
    .description('Runs and manages Latchkey, a small auth service.')
    .version(version)
    .addHelpText('after', help)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      getOutHelpWidth: () => widthOf(stdout),
      getErrHelpWidth: () => widthOf(stderr),
      outputError: (text, write) => write(`${text.trim().replaceAll('\n', ' ')}\n`),
    })
  for (const entry of commands) addEntry(program, entry, action)
  return program
}

function addEntry(parent: Command, entry: Group | AdminCommand | FreeCommand, action: Action): void {
  if ('usage' in entry) addCommand(parent, entry, action)
  else {
    const group = parent.command(entry.name).description(entry.about)
    for (const one of entry.commands) addEntry(group, one, action)
  }
}

function addCommand(parent: Command, entry: AdminCommand | FreeCommand, action: Action): void {
  const [verb = '', usage = ''] = entry.usage.split(/ (.*)/)
  const command = parent.command(verb).description(entry.about)
  if (entry.alias !== undefined) command.alias(entry.alias)
  for (const argument of usage.match(/<.*?>|\[.*?\]/g) ?? []) command.argument(argument)
  const takesPassword = 'takesPassword' in entry
  const options: FreeCommand['options'] = {
    ...entry.options,
    ...(takesPassword && {
      '--password-stdin': 'read the password from stdin',
      '--generate': 'generate a strong password and print it',
    }),
    ...('confirm' in entry && { '--yes': 'skip the confirmation' }),
    ...(!entry.hasNoJson && { '--json': 'print one JSON document' }),
  }
  for (const [flags, details] of Object.entries(options)) {
    const { about, isRequired, isRepeatable, conflicts, value, parse } =
      typeof details === 'string' ? { about: details } : details
    const option = new Option(flags, about).makeOptionMandatory(isRequired === true)
    if (conflicts !== undefined) option.conflicts(conflicts)
    if (value !== undefined) option.default(value)
    if (parse) option.argParser(parse)
    if (isRepeatable) option.argParser((text: string, before: string[] = []) => [...before, text])
    command.addOption(option)
  }
  if (takesPassword) command.addHelpText('after', passwordHelp)
  if (entry.help !== undefined) command.addHelpText('after', entry.help)
  // Behind the arguments, commander passes the options and the command itself.
  command.action((...given) => action(entry, given.slice(0, -2).flat(), given.at(-2)))
}
