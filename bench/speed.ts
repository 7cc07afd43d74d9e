/*
 * How fast refreshing and checking are, beside a bare Fastify in the same run: `npm run bench`.
 *
 * The server and the bare one run in processes of their own, on a temporary LMDB store; the load comes from this one.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import autocannon from 'autocannon'

const connections = 32
const seconds = Number(process.argv[2] ?? 5)
const form = { 'content-type': 'application/x-www-form-urlencoded' }
const password = 'correct horse battery staple'

interface Target {
  url: string
  process: ChildProcess
}

/** Starts a program that logs one JSON line with its `address`. */
function start(file: string, env: Record<string, string> = {}): Promise<Target> {
  const child = spawn(process.execPath, [fileURLToPath(new URL(file, import.meta.url))], {
    env: { ...process.env, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`${file} ended with ${code}`)))
    createInterface(child.stdout).on('line', (line) => {
      const { address } = JSON.parse(line) as { address?: string }
      if (address) resolve({ url: address, process: child })
    })
  })
}

interface Row {
  what: string
  perSecond: number
  p50Ms: number
  p99Ms: number
  errors: number
}

async function measure(what: string, options: autocannon.Options): Promise<Row> {
  const result = await autocannon({ connections, duration: seconds, ...options })
  return {
    what,
    perSecond: Math.round(result.requests.average),
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
    errors: result.errors + result.non2xx,
  }
}

async function logIn(url: string, username: string): Promise<{ access_token: string; refresh_token: string }> {
  const body = new URLSearchParams({ username, password })
  const response = await fetch(`${url}/token`, { method: 'POST', body })
  return (await response.json()) as { access_token: string; refresh_token: string }
}

const asForm = (refreshToken: string) => `grant_type=refresh_token&refresh_token=${refreshToken}`

/** Each connection refreshes a session of its own, always with the token of the answer before. */
function refreshing(url: string, tokens: string[]): autocannon.Options {
  return {
    url: `${url}/token`,
    method: 'POST',
    headers: form,
    setupClient(client) {
      client.setBody(asForm(tokens.pop() as string))
      client.on('body', (body: Buffer) => {
        const next = /"refresh_token":"([^"]+)"/.exec(body.toString())?.[1]
        if (next) client.setBody(asForm(next))
      })
    },
  }
}

const dataDir = mkdtempSync(join(tmpdir(), 'latchkey-bench-'))
const latchkey = await start('../start.cjs', { AUTH_DATA_DIR: dataDir, AUTH_THROTTLE: 'off', AUTH_HASH_MAX_WAIT: '60s' })
const bare = await start('./bare.js')
try {
  await fetch(`${latchkey.url}/signup`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ username: 'bench', password }),
  })
  const logins = []
  for (let n = 0; n < connections; n++) logins.push(await logIn(latchkey.url, 'bench'))
  const authorization = `Bearer ${logins[0]?.access_token}`

  const rows = [
    await measure('bare GET', { url: `${bare.url}/` }),
    await measure('GET /protected, one token', { url: `${latchkey.url}/protected`, headers: { authorization } }),
    await measure('bare form POST', { url: `${bare.url}/`, method: 'POST', headers: form, body: asForm(logins[0]?.refresh_token ?? '') }),
    await measure(
      'refresh, durable',
      refreshing(
        latchkey.url,
        logins.map((tokens) => tokens.refresh_token),
      ),
    ),
  ]
  const [bareGet, check, barePost, refresh] = rows as [Row, Row, Row, Row]
  console.table(rows)
  console.log(`GET /protected is ${(check.perSecond / bareGet.perSecond).toFixed(2)} of a bare GET`)
  console.log(`a refresh is ${(refresh.perSecond / barePost.perSecond).toFixed(2)} of a bare form POST`)
  if (rows.some(({ errors }) => errors > 0)) process.exitCode = 1
} finally {
  latchkey.process.kill()
  bare.process.kill()
  rmSync(dataDir, { recursive: true, force: true })
}
