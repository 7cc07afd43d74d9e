import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { cheapHashing, newDir } from '../support/helper.ts'
import { program } from '../support/program.ts'

/* `.env`, and what a terminal shows: how Latchkey is started by hand. */

const { PATH = '' } = process.env

/** Runs a file of the program in a directory until it ends, or says that it listens. */
async function run(t: Test, cwd: string, file: string, args: string[] = [], env: Record<string, string> = {}) {
  const child = spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, program(file), ...args], {
    cwd,
    env: { PATH, ...cheapHashing, ...env },
  })
  const ended = once(child, 'close')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  let stdout = ''
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (chunk) => {
    stderr += chunk
  })
  child.stdout.setEncoding('utf8').on('data', (chunk) => {
    stdout += chunk
    if (/Latchkey listens/.test(stdout)) child.kill('SIGTERM')
  })
  const [code] = await ended
  return { code, stdout, stderr }
}

t.test(
  'a line of .env is a name with its value, a comment or nothing; else the file is not taken, and the line is named',
  async (t) => {
    const require = createRequire(import.meta.url)
    const { loadEnvFile } = require(program('config/env-file.cjs')) as {
      loadEnvFile(path: string): string | undefined
    }
    const dir = await newDir(t)
    const path = join(dir, '.env')
    const take = async (text: string) => {
      await writeFile(path, text)
      return loadEnvFile(path)
    }
    t.teardown(() => {
      for (const name of Object.keys(process.env)) if (name.startsWith('LATCHKEY_T_')) delete process.env[name]
    })
    t.equal(loadEnvFile(join(dir, 'nothing')), undefined)
    await mkdir(join(dir, 'venv'))
    t.equal(loadEnvFile(join(dir, 'venv')), undefined, 'a directory is of somebody else')
    process.env['LATCHKEY_T_SET'] = 'before'
    const good = [
      '# a comment\n\nLATCHKEY_T_A=1\r\nLATCHKEY_T_SET=after\n',
      'export LATCHKEY_T_B = two words # a comment\nLATCHKEY_T_C=\n  LATCHKEY_T_D="# = \'"\n',
      'LATCHKEY_T_E="two\nlines"\nLATCHKEY_T_F=`x`',
      '',
    ]
    for (const text of good) t.equal(await take(text), undefined, JSON.stringify(text))
    const taken = { A: '1', SET: 'before', B: 'two words', C: '', D: "# = '", E: 'two\nlines', F: 'x' }
    for (const [name, value] of Object.entries(taken)) t.equal(process.env[`LATCHKEY_T_${name}`], value, name)

    const bad: [text: string, line: number][] = [
      ['LATCHKEY_T_X=1\nhunter2\n', 2],
      ['set -a\n', 1],
      ['\n\nLATCHKEY_T_X: hunter2\n', 3],
      ['LATCHKEY_T_X="hunter2\nLATCHKEY_T_Y=1\n', 1],
      ['=hunter2\n', 1],
      ['1A=hunter2\n', 1],
      ['\ufeffLATCHKEY_T_X=hunter2\n', 1],
      ['{"LATCHKEY_T_X": "hunter2"}', 1],
    ]
    for (const [text, line] of bad)
      t.equal(
        await take(text),
        `${path}: expected NAME=value, a comment or nothing on line ${line}`,
        JSON.stringify(text),
      )
    t.equal(process.env['LATCHKEY_T_X'], undefined)
  },
)

t.test('.env of the directory is read by the service and by every command, and the environment wins', async (t) => {
  const dir = await newDir(t)
  await writeFile(
    join(dir, '.env'),
    'AUTH_ISSUER=http://from.file\nPORT=0\nAUTH_DATA_DIR=./elsewhere\nAUTH_SIGNING_ALG=RS256\n',
  )
  const served = await run(t, dir, 'start.cjs', [], { AUTH_SIGNING_ALG: 'EdDSA' })
  t.equal(served.code, 0, served.stderr)
  t.match(
    JSON.parse(
      served.stdout
        .trim()
        .split('\n')
        .find((line) => /Latchkey listens/.test(line)) ?? '{}',
    ),
    {
      issuer: 'http://from.file',
      data_dir: './elsewhere',
      alg: 'EdDSA',
    },
  )
  const listed = await run(t, dir, 'cli/latchkey.js', ['user', 'list', '--json'])
  t.equal(listed.code, 0, listed.stderr)
  t.match(
    await run(t, dir, 'cli/latchkey.js', ['user', 'list'], { AUTH_DATA_DIR: './nowhere' }),
    { code: /[^0]/ },
    'and not where the file says',
  )

  await writeFile(join(dir, '.env'), 'AUTH_SECRET: hunter2\n')
  for (const [file, args] of [
    ['start.cjs', []],
    ['cli/latchkey.js', ['user', 'list']],
    ['cli/latchkey.js', ['serve']],
  ] as [string, string[]][]) {
    const { code, stderr } = await run(t, dir, file, args)
    t.equal(code, 78)
    t.equal(stderr, '.env: expected NAME=value, a comment or nothing on line 1\n', `${file} ${args}`)
  }
})

const hasScript = spawnSync('script', ['--version']).status === 0

t.test(
  'on a terminal the lines are for people, and one of them says that it listens',
  { skip: !hasScript && 'no script(1)' },
  async (t) => {
    const dir = await newDir(t)
    const command = `echo "pid $$"; exec env -u NODE_OPTIONS ${process.execPath} ${program('start.cjs')}`
    const child = spawn('script', ['-qefc', command, '/dev/null'], {
      cwd: dir,
      env: { PATH, ...cheapHashing, PORT: '0', TERM: 'xterm' },
    })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      text += chunk
      if (/Latchkey listens/.test(text)) process.kill(Number(/^pid (\d+)/.exec(text)?.[1]), 'SIGTERM')
    })
    const [code] = await once(child, 'close')
    t.equal(code, 0, text)
    t.match(text, /Latchkey listens on http:\/\/127\.0\.0\.1:\d+/)
    t.equal(text.match(/listen/gi)?.length, 1)
    t.notMatch(text, /"pid"|"hostname"|^\{/m, 'no JSON')
  },
)
