import { spawnSync } from 'node:child_process'
import { readFile, rename, rm, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t from 'tap'
import { cheapHashing, newDir } from '../support/helper.ts'
import { startHere } from '../support/processes.ts'
import { program, root } from '../support/program.ts'

/* What docs/operations.md tells people to type when something has happened, typed in. */

const text = await readFile(join(root, 'docs/operations.md'), 'utf8')
const blocks = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block = '']) => block)
const blockWith = (words: string) => blocks.find((block) => block.includes(words)) ?? 'exit 1'

/** Types a block in the directory of the project, as it is in this test. */
function type(dir: string, block: string): void {
  const env = { PATH: `${dirname(process.execPath)}:${process.env['PATH']}`, HOME: dir }
  const { status, stderr } = spawnSync('env', ['-u', 'NODE_OPTIONS', 'sh', '-ec', block], {
    cwd: dir,
    env,
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`${block} ended with ${status}: ${stderr}`)
}

const settings = { ...cheapHashing, AUTH_ISSUER: 'http://localhost:3000' }

t.test('a backup beside a running service, restored, goes on with the sessions of today', async (t) => {
  const dir = await newDir(t)
  await symlink(dirname(program('start.cjs')), join(dir, 'dist'))
  await symlink(join(root, 'node_modules'), join(dir, 'node_modules'))
  const data = join(dir, 'data')
  const before = await startHere(t, { ...settings, AUTH_DATA_DIR: data })
  await before.signUp('ada')
  const first = await before.logIn('ada')

  type(dir, blockWith('backup/lmdb'))
  const second = (await before.refresh(first.refresh_token)).body
  await before.close()
  await rm(data, { recursive: true })
  await rename(join(dir, 'backup'), data)

  const after = await startHere(t, { ...settings, AUTH_DATA_DIR: data })
  t.equal(await after.check(second.access_token), 204, 'the signing key is the same')
  t.equal((await after.refresh(second.refresh_token)).status, 200, 'a refresh token that is ahead of the store goes on')
  await after.close()
})
