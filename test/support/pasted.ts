import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { text as textOfStream } from 'node:stream/consumers'
import type { Test } from 'tap'
import { run } from './cli.ts'
import { program } from './program.ts'

/* The commands of a page, pasted into a shell: each works, and answers what stands below it. */

/** What is pasted, and the answer that is shown below it, if one is. */
export interface Step {
  command: string
  answer: string | undefined
}

export const stepsOf = (text: string): Step[] =>
  [...text.matchAll(/^```sh\n(.*?)^```\n(?:```(?:json|text|http)\n(.*?)^```$)?/gms)].map(
    ([, command = '', answer]) => ({ command, answer }),
  )

/** How people have them open: with what an interactive one does otherwise, such as no comments in zsh. */
export const shells: Record<string, string[]> = {
  bash: ['--norc', '--noprofile', '-i'],
  zsh: ['-f', '-i'],
  dash: ['-i'],
}

/** Why a shell cannot be pasted into; false where it can. */
export const whyNot = (shell: string): string | false =>
  spawnSync(shell, ['-c', 'command -v curl && command -v sed']).status !== 0 && `${shell} or curl is not there`

/** A text in which everything that differs from run to run has one form. */
const shapeOf = (text: string) =>
  text
    .replaceAll('\r', '')
    .replace(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'ID')
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ/g, 'WHEN')
    .replace(/\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d (?:GMT|\+0000)/g, 'DATE')
    .replace(/\d{1,2} \w+ \d{4} \d\d:\d\d \(UTC\)/g, 'MINUTE')
    .replace(/\S*mails\/\S+\.eml/g, 'FILE')
    .replace(/"[\w-]{43}"/g, '"RECORD"')
    .replace(/"[\w-]{48}"/g, '"HANDLE"')
    .replace(/lka_[\w-]+…?/g, 'SIGN-IN')
    .replace(/lkc_[\w-]+…?/g, 'GRANT')
    .replace(/"challenge":"[\w-]+"/g, 'CHALLENGE')
    .replace(/\b[A-Z2-7]{4}(-?[A-Z2-7]{4}){3,7}\b/g, 'BASE32')
    .replace(/"(auth_time|iat|exp)":\d+/g, '"$1":SECONDS')
    .replace(/"jti":"[^"]+"/g, '"jti":"JTI"')
    .replace(/lkp_[\w-]+/g, 'RESET')
    .replace(/^\d{8}$/gm, 'CODE')
    .replace(/eyJ[\w.-]+…?/g, 'JWT')
    .replace(/lkr_[\w-]+…?/g, 'REFRESH')
    .replace(/curl\/[\d.]+(?:-\w+)?/g, 'CURL')
    .trim()

/** A command of the test's own, which the shell finds before others: it is answered by this process. */
export type Stand = (args: string[]) => Promise<{ code: number; text: string }>

/**
 * What stands in for `npm run --silent latchkey --`, without a process for each.
 *
 * @param env of the command: where its store is
 */
export const latchkeyHere =
  (env: Record<string, string>): Stand =>
  async (args) => {
    if (args.slice(0, 4).join(' ') !== 'run --silent latchkey --') return { code: 64, text: args.join(' ') }
    const { code, stdout, stderr } = await run(args.slice(4), env)
    return { code, text: stdout + stderr }
  }

/** The same as the built program, in a process of its own. */
export const latchkeyBuilt = (): string => `#!/bin/sh
[ "$1 $2 $3 $4" = 'run --silent latchkey --' ] || exit 64
shift 4
exec '${process.execPath}' '${program('cli/latchkey.js')}' "$@"
`

/** Writes the commands into a directory, as scripts that ask this process. */
async function writeStands(t: Test, bin: string, stands: Record<string, Stand | string>): Promise<void> {
  const server = createServer(async (request, response) => {
    const args = (await textOfStream(request)).split('\n').slice(0, -1)
    const { code, text } = await (stands[(request.url as string).slice(1)] as Stand)(args)
    response.writeHead(code === 0 ? 200 : 500).end(text)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const asking = (name: string) =>
    `#!/bin/sh\nprintf '%s\\n' "$@" | curl -sS --fail-with-body --data-binary @- http://127.0.0.1:${port}/${name}\n`
  await mkdir(bin, { recursive: true })
  for (const [name, stand] of Object.entries(stands)) {
    await writeFile(join(bin, name), typeof stand === 'string' ? stand : asking(name), { mode: 0o755 })
  }
}

/**
 * Pastes steps into a shell, in order, and compares what is shown with what stands below each.
 *
 * @param dir in which they are pasted @param origin of the service, in the place of http://127.0.0.1:3000
 * @param stands commands of the test's own, or scripts, by their names
 */
export async function paste(
  t: Test,
  steps: Step[],
  {
    shell,
    dir,
    origin,
    env = {},
    stands,
  }: {
    shell: string
    dir: string
    origin: string
    env?: Record<string, string>
    stands: Record<string, Stand | string>
  },
): Promise<void> {
  const bin = join(dir, 'bin')
  await writeStands(t, bin, stands)
  const mark = (index: number) => `@@@ ${index} @@@`
  const typed = steps.map(
    ({ command }, index) => `printf '\\n${mark(index)}\\n'\n${command.replaceAll('http://127.0.0.1:3000', origin)}`,
  )
  const child = spawn('env', ['-u', 'NODE_OPTIONS', shell, ...(shells[shell] as string[])], {
    cwd: dir,
    env: {
      PATH: `${bin}:${dirname(process.execPath)}:${process.env['PATH']}`,
      HOME: dir,
      PS1: '',
      PS2: '',
      ...env,
    },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  child.stdin.end(`${typed.join('')}printf '\\n${mark(steps.length)}\\n'\nexit\n`)
  const [stdout, stderr] = await Promise.all([
    textOfStream(child.stdout),
    textOfStream(child.stderr),
    once(child, 'close'),
  ])
  t.notMatch(stderr, /not found|parse error|syntax error/i)
  for (const [index, { command, answer }] of steps.entries()) {
    const shown = stdout.split(mark(index))[1]?.split(mark(index + 1))[0] ?? 'nothing'
    t.equal(shapeOf(shown), shapeOf(answer ?? ''), command)
  }
}
