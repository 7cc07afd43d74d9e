#!/usr/bin/env node
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { Command, CommanderError } from 'commander'
import { ConfigError } from '../config.ts'
import { addBenchCommand } from './bench.ts'
import { addClientCommands } from './client.ts'
import { exitCodes, explain } from './exit.ts'
import { addKeysCommands } from './keys.ts'
import { createOutput, type Output } from './output.ts'
import { placeHelp } from './places.ts'
import { serve } from './serve.ts'
import { addSessionCommands } from './session.ts'
import { storeCheck } from './store-check.ts'
import { storeCopy } from './store-copy.ts'
import { addUserCommands } from './user.ts'

const help = `
First steps
  latchkey serve                            start the service
  latchkey user add ada --role admin        the first administrator, who can then use /admin/ as well
  latchkey client add reports --introspect  a service that asks about tokens

Exit codes
  0 fine   1 refused, not found, or problems were found   64 wrong usage   69 the store is unavailable   78 a setting is wrong

Settings come from the environment and from .env here, as for the service; every command works beside a running one.
Each takes --help, with examples, and --json for scripts. docs/cli.md has them in one table.`

/** Runs a subcommand; what it returns is the exit code. A last turn of the event loop lets the output out. */
const running =
  <Options>(command: (options: Options, output: Output) => Promise<number>) =>
  async (options: Options & { json?: true }) => {
    process.exitCode = await command(options, createOutput(options.json === true))
  }

/** The package is above `cli/`, and above `dist/cli/` where it was built to. */
const packageJson = ['../package.json', '../../package.json']
  .map((path) => new URL(path, import.meta.url))
  .find((url) => existsSync(url))
const { version } = JSON.parse(readFileSync(packageJson as URL, 'utf8'))

const program = new Command('latchkey')
  .description('Runs and looks after Latchkey, a small auth service.')
  .version(version)
  .addHelpText('after', help)
  .exitOverride()
  .configureOutput({ outputError: (text, write) => write(`${text.trim().replaceAll('\n', ' ')}\n`) })

program.command('serve').description('start the service, as npm start does').action(running(serve))

addUserCommands(program)
addSessionCommands(program)
addClientCommands(program)
addKeysCommands(program)

const store = program.command('store').description('move and check stores')
store
  .command('copy')
  .description('bring one store up to date with another; safe to repeat')
  .requiredOption('--from <store>', 'where from')
  .requiredOption('--to <store>', 'where to')
  .option('--delete', 'remove from the target what the source does not have (any more)')
  .option('--json', 'one JSON document')
  .addHelpText('after', `\n${placeHelp}`)
  .action(running(storeCopy))
store
  .command('check')
  .description('read everything and say what is wrong')
  .option('--store <store>', 'which one; that of the settings when not given')
  .option('--json', 'one JSON document')
  .addHelpText('after', `\n${placeHelp}`)
  .action(running(storeCheck))
addBenchCommand(program)

// `latchkey user list | head`: nobody reads on.
process.stdout.on('error', ({ code }: NodeJS.ErrnoException) =>
  process.exit(code === 'EPIPE' ? exitCodes.fine : exitCodes.problems),
)

const { loadEnvFile } = createRequire(import.meta.url)('../config/env-file.cjs') as {
  loadEnvFile(): string | undefined
}

try {
  const problem = loadEnvFile()
  if (problem !== undefined) throw new ConfigError(problem)
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? exitCodes.fine : exitCodes.usage
  else {
    const { line, exitCode } = explain(error)
    process.stderr.write(`${line}\n`)
    process.exitCode = exitCode
  }
}
