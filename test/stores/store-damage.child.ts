import { buildApp } from '../../app.ts'
import { ConfigError, readConfig } from '../../config.ts'
import { vouchForStore } from '../../stores/lmdb/vouch.ts'
import { schemaController } from '../support/compilers.ts'

/*
 * Starts the service on one store after another, as `server.ts` does, in one process. `store-damage.test.ts` names
 * them.
 */

export interface Start {
  env: Record<string, string>
  /** of ada, who logs in */
  password: string
}

/** The line that the start ends with, or the id of the user who logged in. */
export interface Outcome {
  line?: string
  id?: string
  log: string
}

async function start({ env, password }: Start): Promise<Outcome> {
  let log = ''
  const logStream = {
    write(line: string) {
      log += line
    },
  }
  try {
    const config = readConfig(env)
    const vouching = vouchForStore(config.AUTH_DATA_DIR)
    await vouching.soon
    const app = await buildApp(config, { logStream, schemaController })
    const login = await app.inject({
      method: 'POST',
      url: '/token',
      payload: `username=ada&password=${password}`,
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    })
    const me = await app.inject({ url: '/users/me', headers: { authorization: `Bearer ${login.json().access_token}` } })
    await app.close()
    return { id: me.json().id, log }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return { line: error.message, log }
  }
}

process.on('message', async (next: Start) => process.send?.(await start(next)))
