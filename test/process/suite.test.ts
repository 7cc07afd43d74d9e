import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'

t.test('a run of the tests in which one fails ends with 1', async (t) => {
  const suite = join(process.env['LATCHKEY_BUILT'] as string, 'test/support/suite.js')
  const { status, stdout } = spawnSync(process.execPath, [suite, 'test/spec/there-is-none.test.ts'], {
    encoding: 'utf8',
  })
  t.equal(status, 1)
  t.match(stdout.trimEnd().split('\n').at(-1), /^0 passed, [12] failed$/)
})
