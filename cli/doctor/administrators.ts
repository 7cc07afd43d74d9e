import { adminScope } from '../../domain/client.ts'
import type { Store } from '../../stores/store.ts'
import { printable } from '../output.ts'
import { type Check, count, needed, ok, warning } from './check.ts'
import type { Facts } from './facts.ts'

/** The users with the role `admin`, as far as there was time to look. */
export interface Administrators {
  found: number
  /** names of those who are not disabled and have no second factor */
  lacking: string[]
  /** whether all users were looked at */
  isAll: boolean
}

/** There is no index by role: in this time some ten thousand users are looked at. */
const longestMs = 700
const usersAtOnce = 200
const namesShown = 3

export async function readAdministrators(store: Pick<Store, 'listUsers'>): Promise<Administrators> {
  const startedAt = performance.now()
  const administrators: Administrators = { found: 0, lacking: [], isAll: true }
  let after: string | undefined
  do {
    const page = await store.listUsers({ limit: usersAtOnce, ...(after !== undefined && { after }) })
    for (const { roles, disabledAt, hasFactors, username } of page.users) {
      if (!roles.includes(adminScope) || disabledAt !== undefined) continue
      administrators.found += 1
      if (!hasFactors) administrators.lacking.push(username)
    }
    after = page.next
  } while (after !== undefined && performance.now() - startedAt < longestMs)
  return { ...administrators, isAll: after === undefined }
}

/** Who administers. */
export const administrators: Check<Facts>[] = [
  {
    id: 'mfa.admins',
    async find({ store, config }) {
      const { found, lacking, isAll } = await needed(store('administrators'), 'store')
      const among = isAll ? '' : ', among the users that there was time to look at'
      if (found === 0) return ok(`no administrator${among}`)
      const all = count(found, 'administrator')
      if (lacking.length === 0) return ok(`${all}, none without a second factor${among}`)
      const names = lacking.slice(0, namesShown).map(printable).join(', ')
      const seen = `${lacking.length} of ${all} without a second factor: ${names}${lacking.length > namesShown ? ', …' : ''}${among}`
      if (config().AUTH_MFA === 'optional')
        return ok(seen, 'AUTH_MFA=admins has each of them add one before they get tokens')
      return warning(
        seen,
        'AUTH_MFA',
        'have them sign in and add one now: until then whoever knows the password adds theirs',
      )
    },
  },
]
