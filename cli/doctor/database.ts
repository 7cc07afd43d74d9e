import { migrations } from '../../stores/postgres/migrations.ts'
import { connectionsAtMost } from '../../stores/postgres/pool.ts'
import type { Server, ServerFacts } from '../../stores/postgres/server-facts.ts'
import { type Check, count, type Found, failed, NotKnown, ok, skipped, span, warning } from './check.ts'
import type { Facts } from './facts.ts'

/** The one that takes writes, or else one that answers. @throws {NotKnown} when there is no database, or none answers */
export async function serverOf({ servers }: Pick<Facts, 'servers'>): Promise<ServerFacts> {
  const answering = (await servers()).flatMap(({ facts }) => (typeof facts === 'string' ? [] : [facts]))
  const found = answering.find(isWritable) ?? answering[0]
  if (!found) throw new NotKnown('not looked at, because of database')
  return found
}

const isWritable = ({ isStandby, settings }: ServerFacts) =>
  !isStandby && settings['default_transaction_read_only'] !== 'on'

/** A check of the server that takes writes. */
const ofServer = (id: string, judge: (server: ServerFacts, facts: Facts) => Found | Found[]): Check<Facts> => ({
  id,
  find: async (facts) => judge(await serverOf(facts), facts),
})

/** A server setting that has to be on for what was answered to be on disk. */
const mustBeOn = (name: string, verdict: typeof failed, what: string) =>
  ofServer(`database.${name}`, ({ settings }) => {
    const value = settings[name]
    if (value === undefined) return skipped('the database has no such setting')
    return value === 'off' ? verdict(`off: ${what}`, `${name} of the database`, 'set it to on') : ok(value)
  })

const oldest = 140000

/** The database, as the service will find it. */
export const database: Check<Facts>[] = [
  {
    id: 'database',
    async find({ servers }) {
      const all = await servers()
      const lines = all.map(lineOf)
      if (all.some(({ facts }) => typeof facts !== 'string' && isWritable(facts)))
        return lines.map((line) =>
          line.verdict === 'failed' && all.length > 1 ? { ...line, verdict: 'warning' } : line,
        )
      return lines.map((line) =>
        line.verdict === 'ok' ? failed(line.seen, 'DATABASE_URL', 'name one that takes writes') : line,
      )
    },
  },
  ofServer('database.version', ({ version, number }) => {
    if (!/^PostgreSQL \d/.test(version)) return ok(version.slice(0, 60))
    const seen = version.split(/[ ,]/, 2).join(' ')
    return number > 0 && number < oldest
      ? warning(`${seen}, which gets no fixes any more`, 'the database', 'upgrade it to PostgreSQL 14 or newer')
      : ok(seen)
  }),
  ofServer('database.encoding', ({ settings: { server_encoding: encoding } }) =>
    encoding === undefined || encoding === 'UTF8'
      ? ok(encoding ?? 'UTF8')
      : failed(
          `${encoding}: names in other letters cannot be stored`,
          'the database',
          "make it anew WITH ENCODING 'UTF8'",
        ),
  ),
  mustBeOn('fsync', failed, 'a power cut loses what was answered, or all'),
  mustBeOn('synchronous_commit', failed, 'a crash loses what was answered: sessions that were ended live again'),
  mustBeOn('full_page_writes', warning, 'a power cut may leave a page half written'),
  ofServer('database.standbys', ({ standbys, settings: { synchronous_standby_names: names = '' } }) => {
    const isSynchronous = standbys.some(({ sync }) => sync === 'sync' || sync === 'quorum')
    // A user without the right to see it gets rows without a state.
    if (standbys.length > 0 && standbys.every(({ state }) => state === null))
      return skipped(`${count(standbys.length, 'standby')}; to see more, GRANT pg_monitor to the user`)
    if (names !== '' && !isSynchronous)
      return failed(
        `${names} should confirm each write, and none is connected: writes wait for it`,
        'synchronous_standby_names of the database',
        'start the standby, or set it to what there is',
      )
    const lagging = standbys.filter(({ lagMs }) => (lagMs ?? 0) > 10_000)
    if (lagging.length > 0)
      return warning(
        `a standby is ${span(Math.max(...lagging.map(({ lagMs }) => lagMs ?? 0)))} behind`,
        'the standby',
        'find out what it waits for: after a failover those writes are lost',
      )
    if (standbys.length === 0) return ok('none')
    return ok(`${count(standbys.length, 'standby')}, ${isSynchronous ? 'synchronous' : 'asynchronous'}`)
  }),
  ofServer('database.connections', ({ settings, connections }, { config }) => {
    const most = Number(settings['max_connections']) - Number(settings['superuser_reserved_connections'] ?? 0)
    if (!(most > 0)) return skipped('the database has no such limit')
    const wanted = connectionsAtMost * config().AUTH_WORKERS
    const seen = `${wanted} for one replica, of ${most}; ${connections ?? '?'} are open`
    const advice = `raise it to ${wanted} for each replica and some to spare, or put PgBouncer in between`
    if (wanted > most) return failed(seen, 'max_connections of the database', advice)
    return wanted + (connections ?? 0) > most ? warning(seen, 'max_connections of the database', advice) : ok(seen)
  }),
  ofServer('database.pooling', ({ pooling }) => {
    if (pooling === 'none') return ok('no pooler in between')
    return pooling === 'statement'
      ? failed('a pooler by statement, which refuses transactions', 'pool_mode of the pooler', 'set it to transaction')
      : ok(`a pooler by ${pooling}`)
  }),
  ofServer('database.tls', ({ isLocal, isEncrypted, isVerified }) => {
    if (isLocal) return ok('on this machine')
    if (!isEncrypted)
      return warning(
        'plain: whoever is on the way reads hashes and sessions, and may change them',
        'DATABASE_URL',
        'add ?sslmode=verify-full, but on a network of your own',
      )
    return isVerified
      ? ok('TLS, and its certificate is checked')
      : warning('TLS, and its certificate is not checked', 'DATABASE_URL', 'set sslmode=verify-full, with sslrootcert')
  }),
  ofServer('database.schema', ({ steps, mayCreate }) => {
    const latest = Math.max(...migrations.map(({ version }) => version))
    const taken = Math.max(0, ...(steps ?? []))
    if (taken > latest)
      return warning(`version ${taken}, of a newer release than this`, 'Latchkey', 'upgrade this replica too')
    if (taken === latest) return ok(`version ${taken}, of this release`)
    if (!mayCreate)
      return failed(
        `version ${taken}, and this user may not bring it to ${latest}`,
        'the user in DATABASE_URL',
        'GRANT CREATE ON SCHEMA public to it, for the next start',
      )
    return taken === 0
      ? ok('nothing yet: the first start makes it')
      : warning(`version ${taken}, while this release has ${latest}`, 'Latchkey', 'start it: that adds what is missing')
  }),
]

function lineOf({ host, facts }: Server): Found {
  if (typeof facts === 'string')
    return failed(`${host}: ${facts}`, 'DATABASE_URL', 'start the database, or mend what this says of it')
  if (isWritable(facts)) return ok(`${host} takes writes`)
  if (facts.isStandby) return ok(`${host} is a standby`)
  return failed(
    `${host} takes no writes`,
    'default_transaction_read_only of the database',
    'set it to off; a full disk may have been why it is on',
  )
}

/** Whether the schema is that of this release, so that opening the store changes nothing. */
export const isUpToDate = ({ steps }: ServerFacts): boolean =>
  migrations.every(({ version }) => steps?.includes(version) === true)
