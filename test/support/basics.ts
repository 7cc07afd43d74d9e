import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { mapEmail } from '../../domain/emails.ts'
import type { User } from '../../domain/user.ts'
import type { Store } from '../../stores/store.ts'

/* What needs no test runner: programs beside the tests use it too. */

/** The settings that make hashing cheap; everything else is as the server has it. */
export const cheapHashing = {
  AUTH_INSECURE: '1',
  AUTH_ARGON2_MEMORY: '8',
  AUTH_ARGON2_TIME: '1',
  AUTH_HASH_MAX_WAIT: '10s',
}

export const password = 'correct horse battery staple'

/** What ends with a test, or with the last of several. */
export type Scope = Pick<Test, 'teardown'>

/** Makes an empty directory; `t.testdir()` would empty that of an app that the test has built already. */
export async function newDir(t: Scope): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'latchkey-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}

/** The claims of a JWT, unchecked. */
export function claimsOf(token: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split('.')[1] as string, 'base64url').toString())
}

/** Asks until it is so. @returns milliseconds that it took; those of the limit when it did not come to pass */
export async function until(isSo: () => Promise<boolean>, limitMs = 10_000, pauseMs = 10): Promise<number> {
  const startedAt = performance.now()
  for (;;) {
    const holds = await isSo()
    const ms = performance.now() - startedAt
    if (holds || ms > limitMs) return ms
    await sleep(pauseMs)
  }
}

/** Has a user have these roles, whatever they were; no session ends. */
export async function giveRoles(store: Store, userId: string, roles: string[]): Promise<void> {
  const expected = (await store.findUser(userId)) as User
  if (!(await store.changeUser({ userId, expected, next: { ...expected, roles } }))) throw new Error('not changed')
}

/** Has a user have an address, as one that they have verified or not. */
export async function giveEmail(store: Store, userId: string, email: string, isVerified = true): Promise<void> {
  const expected = (await store.findUser(userId)) as User
  const { emailKey: _, ...user } = expected
  const next = { ...user, email, ...(isVerified && { emailKey: mapEmail(email) }) }
  if (!(await store.changeUser({ userId, expected, next }))) throw new Error('not changed')
}
