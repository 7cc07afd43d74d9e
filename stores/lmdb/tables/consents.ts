import type { UserConsents } from '../../../domain/consent.ts'
import type { ConsentTable } from '../../tables/consents.ts'
import { type Check, checkOf } from '../checks.ts'
import type { Databases } from '../databases.ts'
import type { Runs } from '../runs.ts'
import type { Stage } from '../sweep.ts'

/** What users have allowed apps, in the embedded store. */
export function createConsents({ users, consents }: Databases, { read, write, change }: Runs): ConsentTable {
  return {
    findConsents: (userId) => read(() => consents.get(userId)),
    changeConsents: ({ userId, expectedVersion, next }, audit) =>
      change(audit, () => {
        if (!users.doesExist(userId) || (consents.get(userId)?.version ?? 0) !== expectedVersion) return false
        consents.put(userId, { userId, consents: next, version: expectedVersion + 1 })
        return true
      }),
    removeConsents: (userId) => write(() => void consents.remove(userId)),
  }
}

/** Removes what users have allowed who are gone. */
export function sweepConsents({ users, consents }: Databases): Stage {
  return {
    table: consents,
    isDue: ({ userId }: UserConsents) => !users.doesExist(userId),
    sweep(userId: string) {
      consents.remove(userId)
      return true
    },
  }
}

/** What `store check` finds wrong with each entry. */
export function checkConsents({ consents }: Databases): Check[] {
  return [
    checkOf('consents', consents, (userId) =>
      consents.get(userId)?.userId === userId ? undefined : 'the row does not fit its key',
    ),
  ]
}
