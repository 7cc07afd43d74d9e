import { type Client, mayChallenge } from '../../domain/client.ts'
import { createFetchGuard } from '../../domain/fetch-guard.ts'
import type { Store } from '../../stores/store.ts'
import { printable } from '../output.ts'
import { type Check, count, type Found, needed, ok, warning } from './check.ts'
import type { Facts } from './facts.ts'

const clientsAtOnce = 100
const pagesAtMost = 10
const idsShown = 3

/** What is told of the clients that are not disabled, among the first thousand: ids. */
export interface AppClients {
  /** that take passwords and may not use `/challenge` */
  deadEnds: string[]
  /** to which people sign in in the browser */
  inBrowser: string[]
  /** the same without the grant by which they would get tokens */
  withoutGrant: string[]
  /** told of the end of sessions, and where */
  logoutUris: [id: string, uri: string][]
}

/** Reads what the checks look at. */
export async function readAppClients(store: Pick<Store, 'listClients'>): Promise<AppClients> {
  const found: AppClients = { deadEnds: [], inBrowser: [], withoutGrant: [], logoutUris: [] }
  let after: string | undefined
  for (let page = 0; page < pagesAtMost; page++) {
    const { clients, next } = await store.listClients({ limit: clientsAtOnce, ...(after !== undefined && { after }) })
    for (const client of clients) if (client.disabledAt === undefined) sort(client, found)
    if (next === undefined) break
    after = next
  }
  return found
}

function sort(client: Client, { deadEnds, inBrowser, withoutGrant, logoutUris }: AppClients): void {
  const { id, grants, redirectUris = [], backchannelLogoutUri } = client
  if (grants.includes('password') && !mayChallenge(client)) deadEnds.push(id)
  if (redirectUris.length > 0) (grants.includes('authorization_code') ? inBrowser : withoutGrant).push(id)
  if (backchannelLogoutUri !== undefined) logoutUris.push([id, backchannelLogoutUri])
}

const named = (ids: string[]) => ids.slice(0, idsShown).map(printable).join(', ') + (ids.length > idsShown ? ', …' : '')

/** Clients by which people cannot do what they were made for. */
export const appClients: Check<Facts>[] = [
  {
    id: 'mfa.clients',
    async find({ store, config }) {
      const { deadEnds: ids } = await needed(store('appClients'), 'store')
      const { AUTH_MFA: policy, AUTH_PASSWORD_GRANT: passwords } = config()
      if (passwords === 'off') return ok('none takes passwords at /token')
      if (ids.length === 0) return ok('each that takes passwords may use /challenge')
      const seen = `${count(ids.length, 'client')} by which nobody with a second factor can sign in: ${named(ids)}`
      const advice = 'give it first_party and the grant authorization_code, and have it go on at /challenge'
      return policy === 'optional' ? ok(seen, advice) : warning(seen, 'the clients', advice)
    },
  },
  {
    id: 'clients.browser',
    async find({ store, config }) {
      const { inBrowser, withoutGrant } = await needed(store('appClients'), 'store')
      const found: Found[] = []
      if (inBrowser.length > 0 && config().AUTH_PAGES === 'off') {
        const seen = `${count(inBrowser.length, 'client')} to which people sign in in the browser: ${named(inBrowser)}`
        found.push(warning(seen, 'AUTH_PAGES', 'on, or nobody can sign in to them'))
      }
      if (withoutGrant.length > 0) {
        const seen = `${count(withoutGrant.length, 'client')} with redirect_uris that may not get tokens: ${named(withoutGrant)}`
        found.push(warning(seen, 'the clients', 'give it the grant authorization_code, or take its redirect_uris away'))
      }
      return found.length > 0
        ? found
        : ok(`${count(inBrowser.length, 'client')} to which people sign in in the browser`)
    },
  },
  {
    id: 'clients.unregistered',
    find({ config }) {
      const { AUTH_CIMD: hosts, AUTH_PAGES: pages, AUTH_FETCH_ALLOW: allowed = [] } = config()
      if (hosts === false) return ok('every client has to be registered')
      if (pages === 'off')
        return warning('AUTH_CIMD is set, and there are no pages', 'AUTH_PAGES', 'on, or AUTH_CIMD off')
      if (hosts !== true) return ok(`apps of ${count(hosts.length, 'host')} need not be registered`)
      if (allowed.length === 0) return ok('apps need not be registered')
      const seen = 'strangers may have this service ask the hosts of AUTH_FETCH_ALLOW, which may be private'
      return warning(seen, 'AUTH_CIMD', 'the hosts of the apps that may come, in the place of on')
    },
  },
  {
    id: 'clients.logout',
    async find({ store, config }) {
      const { logoutUris } = await needed(store('appClients'), 'store')
      const guard = createFetchGuard(config().AUTH_FETCH_ALLOW)
      const found = logoutUris.flatMap(([id, uri]) => {
        const problem = guard.problemWith(new URL(uri))
        if (problem === undefined) return []
        return [warning(`${printable(id)} is not told of logouts: ${problem}`, 'AUTH_FETCH_ALLOW', 'name its host')]
      })
      return found.length > 0 ? found : ok(`${count(logoutUris.length, 'client')} to be told of logouts`)
    },
  },
]
