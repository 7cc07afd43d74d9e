import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { text as textOfStream } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { run } from '../support/cli.ts'
import { newDir } from '../support/helper.ts'
import { startHere } from '../support/processes.ts'
import { program, root } from '../support/program.ts'

/* The tour of the README, pasted into a shell: every command works, and answers what stands below it. */

const readme = await readFile(join(root, 'README.md'), 'utf8')
const tour = /^## A tour with curl$(.*?)^## /ms.exec(readme)?.[1] ?? ''

/** What is pasted, and the answer that is shown below it, if one is. */
const steps = [...tour.matchAll(/^```sh\n(.*?)^```\n(?:```(?:json|text|http)\n(.*?)^```$)?/gms)].map(
  ([, command = '', answer]) => ({
    command,
    answer,
  }),
)

/** How people have them open: with what an interactive one does otherwise, such as no comments in zsh. */
const shells: Record<string, string[]> = {
  bash: ['--norc', '--noprofile', '-i'],
  zsh: ['-f', '-i'],
  dash: ['-i'],
}

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
    .replace(/lkp_[\w-]+/g, 'RESET')
    .replace(/^\d{8}$/gm, 'CODE')
    .replace(/eyJ[\w.-]+…?/g, 'JWT')
    .replace(/lkr_[\w-]+…?/g, 'REFRESH')
    .replace(/curl\/[\d.]+(?:-\w+)?/g, 'CURL')
    .trim()

/**
 * What stands in for `npm run --silent latchkey --`, without the build: the program in the first shell, and in the
 * others the same in this process, for what differs by shell is what it is given.
 */
async function latchkeyOf(t: Test, shell: string, env: Record<string, string>): Promise<string> {
  if (shell === 'bash') return `exec '${process.execPath}' '${program('cli/latchkey.js')}' "$@"`
  const server = createServer(async (request, response) => {
    const args = (await textOfStream(request)).split('\n').slice(0, -1)
    const { code, stdout, stderr } = await run(args, env)
    response.writeHead(code === 0 ? 200 : 500).end(stdout + stderr)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  return `printf '%s\\n' "$@" | curl -sS --fail-with-body --data-binary @- http://127.0.0.1:${port}`
}

for (const [shell, options] of Object.entries(shells)) {
  const isThere = spawnSync(shell, ['-c', 'command -v curl && command -v sed']).status === 0
  t.test(
    `the tour of the README works in ${shell}`,
    { skip: isThere ? false : `${shell} or curl is not there` },
    async (t) => {
      const dir = await newDir(t)
      // The issuer and the cost of hashing are the defaults, as in the README.
      const env = {
        AUTH_DATA_DIR: join(dir, 'data'),
        AUTH_ISSUER: 'http://localhost:3000',
        // The restart for these is not pasted.
        AUTH_MAIL_FROM: 'accounts@example.com',
        AUTH_MAIL_DIR: join(dir, 'mails'),
      }
      const { origin } = await startHere(t, env)

      await mkdir(join(dir, 'bin'))
      const latchkey = await latchkeyOf(t, shell, env)
      await writeFile(
        join(dir, 'bin', 'npm'),
        `#!/bin/sh\n[ "$1 $2 $3 $4" = 'run --silent latchkey --' ] || exit 64\nshift 4\n${latchkey}\n`,
        { mode: 0o755 },
      )
      const mark = (index: number) => `@@@ ${index} @@@`
      const typed = steps.map(
        ({ command }, index) => `printf '\\n${mark(index)}\\n'\n${command.replaceAll('http://127.0.0.1:3000', origin)}`,
      )
      const child = spawn('env', ['-u', 'NODE_OPTIONS', shell, ...options], {
        cwd: dir,
        env: {
          PATH: `${join(dir, 'bin')}:${dirname(process.execPath)}:${process.env['PATH']}`,
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

      t.ok(steps.length > 12)
      t.notMatch(stderr, /not found|parse error|syntax error/i)
      for (const [index, { command, answer }] of steps.entries()) {
        const shown = stdout.split(mark(index))[1]?.split(mark(index + 1))[0] ?? 'nothing'
        t.equal(shapeOf(shown), shapeOf(answer ?? ''), command)
      }
    },
  )
}
