import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import t from 'tap'
import { cheapHashing, newDir } from '../support/helper.ts'
import { program } from '../support/program.ts'
import { runProgram } from '../support/running.ts'

/* `.env`, and what a terminal shows: how Latchkey is started by hand. */

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
  const cwd = await newDir(t)
  const inFile = ['AUTH_ISSUER=http://192.0.2.7', 'AUTH_DATA_DIR=./elsewhere', 'AUTH_SIGNING_ALG=RS256']
  // None of this is good where it is taken.
  inFile.push('PORT=none', 'AUTH_ARGON2_MEMORY=none')
  await writeFile(join(cwd, '.env'), inFile.join('\n'))
  const service = await runProgram(t, { ...cheapHashing, AUTH_SIGNING_ALG: 'EdDSA' }, { cwd })
  await service.listening()
  t.match(await service.stop(), { code: 0 })
  const line = service.output.stdout.split('\n').find((line) => /Latchkey listens/.test(line))
  const said = JSON.parse(line ?? '{}')
  t.match(said, { issuer: 'http://192.0.2.7', data_dir: './elsewhere', alg: 'EdDSA' })
  t.match(
    said.passkeys,
    /^off: the host of AUTH_ISSUER is an address, 192\.0\.2\.7/,
    'and it says what is off, and why',
  )
  const listed = await runProgram(t, cheapHashing, { cwd, args: ['cli/latchkey.js', 'user', 'list', '--json'] })
  t.match(await listed.ended, { code: 0 }, listed.output.stderr)

  await writeFile(join(cwd, '.env'), 'AUTH_SECRET: hunter2\n')
  const bad: Parameters<typeof runProgram>[2][] = [
    { cwd, args: ['start.cjs'] },
    { cwd, args: ['cli/latchkey.js', 'user', 'list'] },
    { cwd, args: ['cli/latchkey.js', 'serve'] },
  ]
  for (const options of bad) {
    const { ended, output } = await runProgram(t, cheapHashing, options)
    t.match(await ended, { code: 78 })
    t.equal(output.stderr, '.env: expected NAME=value, a comment or nothing on line 1\n', `${options?.args}`)
  }
})

const hasScript = spawnSync('script', ['--version']).status === 0

t.test(
  'on a terminal the lines are for people, and one of them says that it listens',
  { skip: !hasScript && 'no script(1)' },
  async (t) => {
    const dir = await newDir(t)
    const command = `echo "pid $$"; exec ${process.execPath} ${program('start.cjs')}`
    const child = spawn('script', ['-qefc', command, '/dev/null'], {
      cwd: dir,
      env: { PATH: process.env['PATH'], ...cheapHashing, PORT: '0', TERM: 'xterm' },
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
