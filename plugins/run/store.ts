import { existsSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type Config, ConfigError } from '../../config.ts'
import { tracedMethods } from '../../log/traced.ts'
import { restoreDrafts } from '../../stores/lmdb/directory.ts'
import { damageLine, StoreDamaged } from '../../stores/lmdb/file.ts'
import { isFull, whyUnavailable } from '../../stores/lmdb/unavailable.ts'
import { chosenStore, isMissing, openStore } from '../../stores/open.ts'
import { type Store, StoreTooNew, StoreTooOld, StoreUnavailable, type ToldWrite } from '../../stores/store.ts'
import { secretPath } from '../keys/secret-file.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Without the writes that somebody has to be told of: those go through `changes`. */
    store: Omit<Store, ToldWrite>
  }
}

/**
 * Opens the store that the settings choose.
 *
 * @throws {ConfigError} what is wrong with an embedded one, and what to do @throws {StoreUnavailable}
 * @throws {StoreTooOld} what the service brings up to date, and a command does not
 */
async function openChosen(config: Config, isCommand: boolean): Promise<Store> {
  const { AUTH_DATA_DIR: dataDir, AUTH_SECRET } = config
  const location = chosenStore(config)
  const [unfinished] = location.kind === 'lmdb' && isMissing(location) ? restoreDrafts(dataDir) : []
  if (unfinished !== undefined) {
    throw new ConfigError(
      `AUTH_DATA_DIR: a restore into ${dataDir} is running or was interrupted: wait for it, or run it again; ` +
        `or, to begin anew with no accounts, remove ${unfinished}`,
    )
  }
  // The store is made before its secret is, so that a secret alone is what is left of one.
  if (AUTH_SECRET === undefined && existsSync(secretPath(dataDir)) && isMissing(location)) {
    throw new ConfigError(
      `AUTH_DATA_DIR: expected the store beside its secret in ${dataDir}, and it is missing: ` +
        `put it back from a backup; or, to begin anew with no accounts, remove ${secretPath(dataDir)}`,
    )
  }
  try {
    return await openStore(location)
  } catch (error) {
    if (error instanceof StoreTooOld && !isCommand) throw error
    if (error instanceof StoreTooNew || error instanceof StoreTooOld) {
      const [setting, where] = location.kind === 'pg' ? ['DATABASE_URL', ''] : ['AUTH_DATA_DIR', ` in ${dataDir}`]
      throw new ConfigError(`${setting}: expected a store that this release knows${where}, and ${error.message}`)
    }
    if (error instanceof StoreDamaged) throw new ConfigError(damageLine(dataDir, error))
    if (location.kind === 'pg') throw error
    const { code, message, path = dataDir } = error as NodeJS.ErrnoException
    const got = typeof code === 'string' ? code : message
    if (isFull(error)) throw new StoreUnavailable(error, whyUnavailable(dataDir, error, 'written'))
    throw new ConfigError(`AUTH_DATA_DIR: expected a directory that can be written, got ${got} for ${path}`)
  }
}

/** Opens the store that the settings choose, and closes it when the app has closed. */
export default fp(
  async (app: FastifyInstance) => {
    const opened = await openChosen(app.config, app.command !== undefined)
    const store = tracedMethods(app.traced, 'store', app.metrics?.timeCalls(opened) ?? opened)
    app.decorate('store', store)
    app.addHook('onClose', () => store.close())
  },
  { name: 'store', dependencies: ['metrics'] },
)
