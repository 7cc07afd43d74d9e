/*
 * A life on LMDB in a process of its own, so that its memory is that of the store: `argv` is a directory and how many
 * refreshes. A thousand sessions are refreshed all the time, others are opened and forgotten, and what has expired is
 * swept. It says twenty times what has become of the file and of the memory, one line of JSON each.
 */
import { randomUUID } from 'node:crypto'
import { readFileSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { End } from '../../domain/lifetimes.ts'
import type { Session } from '../../domain/session.ts'
import type { User } from '../../domain/user.ts'
import { openLmdbStore } from '../../stores/lmdb/store.ts'

/** What the process says of itself. */
export interface Sample {
  refreshes: number
  perSecond: number
  fileMB: number
  /** handed to the system to be written, by each refresh */
  writtenBytes: number
  residentMB: number
  sessions: number
}

const [, , dir = '', count] = process.argv
const refreshes = Number(count)
const samples = 20
const atOnce = 64
const kept = 1_000
const forgottenAtOnce = 100
/** Three months in all. */
const msPerRefresh = (90 * 86_400_000) / refreshes
const lives = { idleTtlMs: 30 * 86_400_000, maxTtlMs: 3_650 * 86_400_000 }
const ttl = { ...lives, browser: lives }
const seen = {
  address: '203.0.113.77',
  userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0',
}

const store = openLmdbStore(dir)
let now = Date.UTC(2026, 0, 1)

const users = Array.from({ length: kept }, (_, n): User => {
  const rest = { passwordHash: 'x'.repeat(97), roles: [], createdAt: now, generation: 0 }
  return { id: randomUUID(), username: `user-${n}`, nameKey: `user-${n}`, ...rest }
})
const sessionOf = (n: number): Session => {
  const { id: userId } = users[n % kept] as User
  const times = { createdAt: now, refreshedAt: now }
  return { id: randomUUID(), userId, clientId: 'first-party', scope: [], generation: 0, counter: 0, ...times, ...seen }
}

async function inBatches<T>(list: T[], work: (item: T) => Promise<unknown>): Promise<void> {
  for (let n = 0; n < list.length; n += 50) await Promise.all(list.slice(n, n + 50).map(work))
}

async function sweep(): Promise<void> {
  let cursor: string | undefined
  do {
    const step = await store.sweep({
      ...ttl,
      now,
      failuresBefore: now,
      limit: 500,
      ...(cursor !== undefined && { cursor }),
    })
    cursor = step.cursor
  } while (cursor !== undefined)
}

async function countSessions(): Promise<number> {
  let found = 0
  let after: string | undefined
  do {
    const page = await store.exportRows('sessions', { limit: 1_000, ...(after !== undefined && { after }) })
    found += page.rows.length
    after = page.next
  } while (after !== undefined)
  return found
}

await inBatches(users, (user) => store.createUser(user))
const sessions = users.map((_, n) => sessionOf(n))
await inBatches(sessions, (session) => store.createSession(session))

let next = 0
async function refreshUntil(end: number): Promise<void> {
  while (next < end) {
    const session = sessions[next++ % kept] as Session
    now += msPerRefresh
    const at = Math.floor(now)
    const { id: sessionId, clientId, counter } = session
    const presented = {
      ...ttl,
      ...seen,
      now: at,
      sessionId,
      clientId,
      counter,
      scope: undefined,
      graceMs: 0,
    }
    const { outcome } = await store.rotateSession(presented, { now: at, expiresAt: at } as End)
    if (outcome !== 'rotated') throw new Error(`a refresh was ${outcome}`)
    session.counter += 1
  }
}

const written = () => Number(/^wchar: (\d+)/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1])
const round = (value: number) => Math.round(value * 10) / 10

for (let sample = 1; sample <= samples; sample++) {
  const [startedAt, writtenBefore, from] = [performance.now(), written(), next]
  for (let part = 1; part <= 5; part++) {
    const end = from + Math.floor(((refreshes / samples) * part) / 5)
    await Promise.all(Array.from({ length: atOnce }, () => refreshUntil(end)))
    await inBatches(
      Array.from({ length: forgottenAtOnce }, (_, n) => sessionOf(n)),
      (session) => store.createSession(session),
    )
    await sweep()
  }
  const said: Sample = {
    refreshes: next,
    perSecond: Math.round(((next - from) * 1000) / (performance.now() - startedAt)),
    fileMB: round(statSync(join(dir, 'lmdb', 'data.mdb')).size / 1e6),
    writtenBytes: Math.round((written() - writtenBefore) / (next - from)),
    residentMB: round(process.memoryUsage.rss() / 1e6),
    sessions: await countSessions(),
  }
  writeSync(1, `${JSON.stringify(said)}\n`)
}
await store.close()
process.exit(0)
