import type { Readable, Writable } from 'node:stream'
import type { Admin, Json } from './admin.ts'
import type { Output } from './output.ts'

/** The streams and variables of a command; `process` has them. */
export interface Io {
  stdin: Readable & { isTTY?: boolean }
  stdout: Writable & { isTTY?: boolean; columns?: number }
  stderr: Writable & { isTTY?: boolean; columns?: number }
  env: NodeJS.ProcessEnv
}

/** An option that needs more than its description. */
export interface OptionDetails {
  about: string
  isRequired?: true
  /** given several times, it is a list */
  isRepeatable?: true
  /** an option that it cannot be used with, by its name in `Options` */
  conflicts?: string
  value?: unknown
  /** @throws {InvalidArgumentError} */
  parse?: (text: string) => unknown
}

/** What commander makes of the options that were given. */
// biome-ignore lint/suspicious/noExplicitAny: each command declares its own
export type Options = Record<string, any>

interface Described {
  /** the verb and its arguments: `show <name or id>` */
  usage: string
  /** another verb, of an earlier release */
  alias?: string
  /** one line for the list of commands */
  about: string
  /** by their flags: `--role <role>`. Every command has `--json` too, but where it says `hasNoJson` */
  options?: Record<string, string | OptionDetails>
  hasNoJson?: true
  /** shown below the options */
  help?: string
}

/** A command that does its work in its own way. */
export interface FreeCommand extends Described {
  /** @returns the exit code */
  run(io: Io, options: Options, output: Output, args: string[]): Promise<number>
}

/** What a command at `/admin/` has gathered before it acts. */
export interface Given {
  args: string[]
  options: Options
  /** what `find` returned */
  found: Json
  /** where the command `takesPassword` */
  password: string
  stdin: Io['stdin']
}

/** Rows of a list, as a table or as JSON. */
export interface List {
  path: string
  /** of the answer that has the rows */
  member: string
  /** a cell for each head: a member of the row, or what is made of the row */
  columns: Record<string, string | ((row: Json) => string)>
}

/**
 * A command that makes requests to `/admin/`. `cli/admin.ts` runs it, in this order: find, ask for a password or a
 * confirmation, list or act, print.
 */
export interface AdminCommand extends Described {
  /** makes an embedded store that is missing; otherwise that is taken for a mistake in AUTH_DATA_DIR */
  mayMakeStore?: true
  /** what it makes is sealed, so a store without a secret gets one */
  makesSecret?: true
  /** it is about the webhooks of AUTH_WEBHOOKS_FILE: for others a file that is wrong does not matter */
  readsWebhooks?: true
  /** Reads what the first argument names, before anything is asked or changed. */
  find?(admin: Admin, name: string): Promise<Json>
  /** has `--password-stdin` and `--generate`, or asks */
  takesPassword?: true
  /** The question to confirm; the command has `--yes`. */
  confirm?(given: Given): string
  list?(given: Given): List
  /** Makes the requests. @returns the answer that is shown */
  act?(admin: Admin, given: Given): Promise<Json>
  /** The document of `--json`; the answer when not given. */
  json?(answer: Json, given: Given, admin: Admin): Json | Promise<Json>
  /** The lines for people. */
  text?(answer: Json, given: Given): string
  /** After what was done is printed: what was refused, in a line. The command then ends with 1. */
  refused?(answer: Json): string | undefined
}

/** Commands with their first word in common. */
export interface Group {
  name: string
  about: string
  commands: (AdminCommand | FreeCommand | Group)[]
}
