import { mayChallenge } from '../../domain/client.ts'
import type { Store } from '../../stores/store.ts'
import { printable } from '../output.ts'
import { type Check, count, needed, ok, warning } from './check.ts'
import type { Facts } from './facts.ts'

const clientsAtOnce = 100
const pagesAtMost = 10
const idsShown = 3

/** The ids of clients that take passwords and may not use `/challenge`, among the first thousand. */
export async function readDeadEnds(store: Pick<Store, 'listClients'>): Promise<string[]> {
  const ids: string[] = []
  let after: string | undefined
  for (let page = 0; page < pagesAtMost; page++) {
    const { clients, next } = await store.listClients({ limit: clientsAtOnce, ...(after !== undefined && { after }) })
    for (const client of clients) {
      const takesPasswords = client.disabledAt === undefined && client.grants.includes('password')
      if (takesPasswords && !mayChallenge(client)) ids.push(client.id)
    }
    if (next === undefined) break
    after = next
  }
  return ids
}

/** By which apps users with a second factor cannot sign in. */
export const appClients: Check<Facts>[] = [
  {
    id: 'mfa.clients',
    async find({ store, config }) {
      const ids = await needed(store('deadEnds'), 'store')
      const { AUTH_MFA: policy, AUTH_PASSWORD_GRANT: passwords } = config()
      if (passwords === 'off') return ok('none takes passwords at /token')
      if (ids.length === 0) return ok('each that takes passwords may use /challenge')
      const names = ids.slice(0, idsShown).map(printable).join(', ') + (ids.length > idsShown ? ', …' : '')
      const seen = `${count(ids.length, 'client')} by which nobody with a second factor can sign in: ${names}`
      const advice = 'give it first_party and the grant authorization_code, and have it go on at /challenge'
      return policy === 'optional' ? ok(seen, advice) : warning(seen, 'the clients', advice)
    },
  },
]
