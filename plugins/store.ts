import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { openLmdbStore } from '../stores/lmdb.ts'
import { openPostgresStore } from '../stores/postgres.ts'
import type { Store } from '../stores/store.ts'

declare module 'fastify' {
  interface FastifyInstance {
    store: Store
  }
}

/** Opens the store that the settings choose, and closes it when the app has closed. */
export default fp(
  async (app: FastifyInstance) => {
    const { DATABASE_URL, AUTH_DATA_DIR } = app.config
    const store = DATABASE_URL ? await openPostgresStore(DATABASE_URL) : openLmdbStore(AUTH_DATA_DIR)
    app.decorate('store', store)
    app.addHook('onClose', () => store.close())
  },
  { name: 'store' },
)
