import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ConfigError } from '../config.ts'
import { openLmdbStore } from '../stores/lmdb.ts'
import { openPostgresStore } from '../stores/postgres.ts'
import type { Store } from '../stores/store.ts'

declare module 'fastify' {
  interface FastifyInstance {
    store: Store
  }
}

function openEmbedded(dataDir: string): Store {
  try {
    return openLmdbStore(dataDir)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new ConfigError(`AUTH_DATA_DIR: expected a directory that can be written, got ${code ?? message} for ${dataDir}`)
  }
}

/** Opens the store that the settings choose, and closes it when the app has closed. */
export default fp(
  async (app: FastifyInstance) => {
    const { DATABASE_URL, AUTH_DATA_DIR } = app.config
    const store = DATABASE_URL ? await openPostgresStore(DATABASE_URL) : openEmbedded(AUTH_DATA_DIR)
    app.decorate('store', store)
    app.addHook('onClose', () => store.close())
  },
  { name: 'store' },
)
