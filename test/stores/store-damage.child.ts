import { buildApp } from '../../app.ts'
import { ConfigError, readConfig } from '../../config.ts'
import { vouchForStore } from '../../stores/lmdb/vouch.ts'

/*
 * Starts the service on one store after another, as `server.ts` does, in one process. `store-damage.test.ts` names
 * them.
 */

export interface Start {
  env: Record<string, string>
  /** of ada, who logs in */
  password: string
  umask: number
}

/** The line that the start ends with; or the id of the user who logged in, and the keys. */
export interface Outcome {
  line?: string
  id?: string
  keys?: unknown
  /** how long it took until the store was there, and what is in it from the start */
  madeMs?: number
  log: string
}

async function start({ env, password, umask }: Start): Promise<Outcome> {
  let log = ''
  const startedAt = performance.now()
  process.umask(umask)
  const logStream = {
    write(line: string) {
      log += line
    },
  }
  try {
    const config = readConfig(env)
    const vouching = vouchForStore(config.AUTH_DATA_DIR)
    await vouching.soon
    const app = await buildApp(config, { logStream })
    const madeMs = performance.now() - startedAt
    const login = await app.inject({
      method: 'POST',
      url: '/token',
      payload: `username=ada&password=${password}`,
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    })
    const me = await app.inject({ url: '/users/me', headers: { authorization: `Bearer ${login.json().access_token}` } })
    const { keys } = (await app.inject('/.well-known/jwks.json')).json()
    await app.close()
    return { id: me.json().id, keys, madeMs, log }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return { line: error.message, log }
  }
}

// It is loaded.
process.send?.('ready')
process.on('message', async (next: Start) => process.send?.(await start(next)))
