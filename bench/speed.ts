/*
 * How fast refreshing and checking are, beside a bare Fastify in the same run: `npm run bench`.
 *
 * The server and the bare one run in processes of their own, on a temporary LMDB store; the load comes from this one.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { asForm, bearer, form, logIn, type Measured, measure, refreshing, signUp, type Tokens } from './load.ts'
import { onEnd, runToEnd, start } from './processes.ts'

const connections = 32
const duration = Number(process.argv[2] ?? 5)
const user = 'bench'

await runToEnd(async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'latchkey-bench-'))
  onEnd(() => rmSync(dataDir, { recursive: true, force: true }))
  const latchkey = await start('../start.cjs', {
    AUTH_DATA_DIR: dataDir,
    DATABASE_URL: '',
    AUTH_THROTTLE: 'off',
    AUTH_HASH_MAX_WAIT: '60s',
  })
  const bare = await start('./bare.js')
  await signUp(latchkey.url, user)
  const sessions: Tokens[] = []
  for (let n = 0; n < connections; n++) sessions.push(await logIn(latchkey.url, user))
  const [someone] = sessions as [Tokens]
  const load = { connections, duration }

  const bareGet = await measure({ ...load, url: `${bare.url}/` })
  const check = await measure({ ...load, url: `${latchkey.url}/protected`, headers: bearer(someone) })
  const barePost = await measure({ ...load, url: `${bare.url}/`, method: 'POST', headers: form, body: asForm(someone.refresh_token) })
  const refresh = await measure({ duration, ...refreshing(latchkey.url, sessions) })

  const rows: Record<string, Measured> = {
    'bare GET': bareGet,
    'GET /protected, one token': check,
    'bare form POST': barePost,
    'refresh, durable': refresh,
  }
  console.table(rows)
  console.log(`GET /protected is ${(check.perSecond / bareGet.perSecond).toFixed(2)} of a bare GET`)
  console.log(`a refresh is ${(refresh.perSecond / barePost.perSecond).toFixed(2)} of a bare form POST`)
  if (Object.values(rows).some(({ errors }) => errors > 0)) process.exitCode = 1
})
