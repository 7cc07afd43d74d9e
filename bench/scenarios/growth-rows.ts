/* The users of the growth benchmark, and a session of each: the same in both stores. The ids spread like random ones. */
import { createHash, randomBytes } from 'node:crypto'
import type { BrowserSession } from '../../domain/browser-session.ts'
import type { Session } from '../../domain/session.ts'
import type { User } from '../../domain/user.ts'

/** All times of a run are from its beginning. */
export interface Age {
  /** milliseconds since the epoch */
  createdAt: number
}

export const sender = {
  clientId: 'first-party',
  address: '203.0.113.77',
  userAgent: 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36',
}

const digest = (text: string) => createHash('md5').update(text).digest()
/** As PostgreSQL's `md5(text)::uuid`. */
const uuid = (text: string) =>
  digest(text)
    .toString('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
export const userId = (n: number): string => uuid(`user ${n}`)
export const sessionId = (n: number): string => uuid(`session ${n}`)
export const nameOf = (n: number): string => `user-${n}@example.com`
/** The bytes of the ids of all, one behind the other. */
export function idsOf(what: 'user' | 'session', size: number): Buffer {
  const ids = Buffer.alloc(16 * size)
  for (let n = 0; n < size; n++) digest(`${what} ${n}`).copy(ids, 16 * n)
  return ids
}

/** One user a millisecond. */
export const userOf = (n: number, id: string, passwordHash: string, { createdAt }: Age): User => {
  const username = nameOf(n)
  return { id, username, nameKey: username, passwordHash, roles: [], createdAt: createdAt - n, generation: 0 }
}
export const sessionOf = (id: string, userId: string, { createdAt }: Age): Session => ({
  ...{ id, userId, scope: [], generation: 0, counter: 0 },
  ...{ createdAt, refreshedAt: createdAt, ...sender },
})

/** Of the users who are signed in in a browser, too. */
export const browsersAtMost = 20_000
/** Of a user. */
export const browserSession = (n: number, { createdAt }: Age, id = uuid(`browser ${n}`)): BrowserSession => ({
  ...{ id, userId: userId(n), generation: 0, secretHash: randomBytes(32).toString('base64url') },
  ...{ createdAt, seenAt: createdAt, authAt: createdAt, amr: ['pwd'] },
  ...{ address: sender.address, userAgent: sender.userAgent },
})
