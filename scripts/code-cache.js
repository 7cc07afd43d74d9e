/*
 * Keeps what V8 makes of the bundle of the service, so that a start neither parses nor compiles it: `service.cache` beside
 * it. That is for one version of Node and the options that the service is started with. `npm run build` runs this, and
 * `npm install` for a package. It never fails; without the file a start takes longer.
 *
 *     node scripts/code-cache.js [dist]
 *
 * A service is started for it on a store of its own, and asked for what is asked for most: what was compiled by then is
 * what is kept.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Script } from 'node:vm'

const script = fileURLToPath(import.meta.url)
const [directory = 'dist', task] = process.argv.slice(2)
const built = resolve(directory)
/** As the service is started: V8 takes no cache that was made with other options. */
const options = ['--max-semi-space-size=4']
const longestMs = 60_000

const { runBundle, bundle, codeCache } = existsSync(join(built, 'process/bundle.cjs'))
  ? createRequire(script)(join(built, 'process/bundle.cjs'))
  : {}

/** Whether there is one for this Node. */
const isGood = () =>
  existsSync(codeCache) &&
  !new Script(readFileSync(bundle, 'latin1'), { cachedData: readFileSync(codeCache) }).cachedDataRejected

/** In a process of its own: runs the service, and keeps what was compiled. */
async function make() {
  const running = runBundle()
  const origin = `http://${process.env.HOST}:${process.env.PORT}`
  const call = (path, { body, ...headers } = {}) =>
    fetch(origin + path, { headers, ...(body && { method: 'POST', body }) }).catch(() => undefined)
  while (!(await call('/readyz'))) await sleep(20)
  const account = { username: 'somebody', password: 'correct horse battery staple' }
  await call('/signup', { 'content-type': 'application/json', body: JSON.stringify(account) })
  const form = (members) => call('/token', { body: new URLSearchParams(members) })
  const { access_token, refresh_token } = await (await form(account)).json()
  await form({ grant_type: 'refresh_token', refresh_token })
  for (const path of ['/protected', '/verify']) await call(path, { authorization: `Bearer ${access_token}` })
  await call('/.well-known/jwks.json')
  const part = `${codeCache}.${process.pid}.part`
  writeFileSync(part, running.createCachedData())
  renameSync(part, codeCache)
}

async function main() {
  if (isGood()) return
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  await once(server.close(), 'close')
  const directory = mkdtempSync(join(tmpdir(), 'latchkey-cache-'))
  // None of the settings of whoever builds.
  const { PATH, TMPDIR } = process.env
  const env = { HOST: '127.0.0.1', PORT: port, AUTH_DATA_DIR: join(directory, 'data'), LOG_LEVEL: 'silent' }
  const child = fork(script, [built, 'make'], {
    env: { ...(PATH && { PATH }), ...(TMPDIR && { TMPDIR }), ...env },
    execArgv: options,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const killer = setTimeout(() => child.kill('SIGKILL'), longestMs)
  await once(child, 'exit')
  clearTimeout(killer)
  rmSync(directory, { recursive: true, force: true })
}

if (task === 'make') make().finally(() => process.kill(process.pid, 'SIGKILL'))
else if (bundle && existsSync(bundle)) {
  await main().catch((error) =>
    console.error(`Starts will take longer, for nothing compiled can be kept: ${error.message}`),
  )
}
