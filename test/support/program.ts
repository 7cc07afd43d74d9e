import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import t from 'tap'
import { newDir } from './helper.ts'

const root = join(import.meta.dirname, '../..')
const require = createRequire(import.meta.url)

async function build(): Promise<string> {
  const outDir = await newDir(t)
  await copyFile(join(root, 'package.json'), join(outDir, 'package.json'))
  await symlink(join(root, 'node_modules'), join(outDir, 'node_modules'))
  const tsc = join(require.resolve('typescript/package.json'), '../bin/tsc')
  const options = [
    '-p',
    'tsconfig.build.json',
    '--noCheck',
    '--outDir',
    outDir,
    '--tsBuildInfoFile',
    join(outDir, '.tsbuildinfo'),
  ]
  // By way of `env`, which becomes the program itself: the test runner puts its own loader into NODE_OPTIONS of what a test starts.
  const child = spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, tsc, ...options], { cwd: root, stdio: 'inherit' })
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Error('the build failed')
  return outDir
}

/** Where the program is, as `npm run build` makes it: built once by `run.js`, or for a test file that is run by itself. */
const built = process.env['LATCHKEY_BUILT'] ?? build()

/** @returns path of a file of the built program, such as `start.cjs` */
export const program = async (file: string): Promise<string> => join(await built, file)
