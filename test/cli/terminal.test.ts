import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import stringWidth from 'string-width'
import t, { type Test } from 'tap'
import { run, runJson, start } from '../support/cli.ts'
import { cheapHashing, newDir, password } from '../support/helper.ts'
import { program } from '../support/program.ts'

/* What a command asks on a terminal, and how it fits one. */

const newStore = async (t: Test) => ({ ...cheapHashing, AUTH_DATA_DIR: join(await newDir(t), 'data') })
const columns = 80

t.test('a password is asked for twice on stderr and not shown, and whoever leaves has changed nothing', async (t) => {
  const env = await newStore(t)
  const add = (typed: string) => run(['user', 'add', 'ada'], env, typed, columns)

  t.same(await add(`${password}\nanother one\n`), {
    code: 1,
    stdout: '',
    stderr: 'Password: \nAgain: \nThe passwords do not match. Nothing was changed.\n',
  })
  t.same(await add('corr\x03'), { code: 130, stdout: '', stderr: 'Password: \nNothing was changed.\n' }, 'Ctrl-C')
  t.same(await add('\x04'), { code: 130, stdout: '', stderr: 'Password: \nNothing was changed.\n' }, 'Ctrl-D')
  const added = await add(`${password}x\x7f\n${password}\n`)
  t.match(added, { code: 0, stdout: /^ada is made\./, stderr: /^Password: \nAgain: \nA new store was made in .*\n$/ })
})

t.test('a deletion is confirmed, by y or yes and nothing else', async (t) => {
  const env = await newStore(t)
  const { id } = await runJson(['user', 'add', 'ada', '--generate'], env)
  const remove = (typed: string) => run(['user', 'delete', 'ada'], env, typed, columns)
  for (const typed of ['\n', 'n\n', 'yess\n']) {
    const { code, stdout, stderr } = await remove(typed)
    t.same([code, stdout], [1, ''], JSON.stringify(typed))
    t.ok(stderr.includes(`Delete ada (${id}) for good? [y/N] `))
    t.match(stderr, /Nothing was changed\.\n$/)
  }
  t.match(await remove('\x03'), { code: 130 })
  t.match(await remove('yes\n'), { code: 0, stdout: 'ada is gone.\n' })
})

t.test('a table fits the terminal, and help does too', async (t) => {
  const env = await newStore(t)
  await run(['user', 'add', 'x'.repeat(100), '--generate'], env)
  const list = await run(['user', 'list'], env, '', 120)
  t.ok(
    list.stdout.split('\n').every((line) => stringWidth(line) <= 120),
    list.stdout,
  )
  t.match((await run(['user', 'list'], env)).stdout, /x{100}/, 'what is no terminal gets names whole')
  const { code, stdout } = await run(['user', '--help'], env, '', 100)
  t.equal(code, 0)
  t.ok(
    stdout.split('\n').every((line) => line.length <= 100),
    stdout,
  )
})

// Real processes

t.test('nobody reads on behind `latchkey … | head`', async (t) => {
  const child = await start(['--help'])
  child.stdout?.destroy()
  const stderr = text(child.stderr as NodeJS.ReadableStream)
  t.same([await once(child, 'exit'), await stderr], [[0, null], ''])
})

const hasScript = spawnSync('script', ['--version']).status === 0

t.test('it asks on a terminal that is one', { skip: !hasScript && 'no script(1)' }, async (t) => {
  const command = `exec ${process.execPath} ${program('cli/latchkey.js')} user add ada`
  const { PATH } = process.env
  const child = spawn('script', ['-qefc', command, '/dev/null'], { env: { PATH, ...(await newStore(t)) } })
  let shown = ''
  let answers = 0
  child.stdout.setEncoding('utf8').on('data', (chunk) => {
    shown += chunk
    const questions = shown.match(/Password: |Again: /g)?.length ?? 0
    for (; answers < questions; answers += 1) child.stdin.write(`${password}\r`)
  })
  const [code] = await once(child, 'close')
  t.equal(code, 0, shown)
  t.match(shown, /^Password: \r\nAgain: \r\nA new store was made in .*\r\nada is made\.\r\n/)
  t.notMatch(shown, password)
})
