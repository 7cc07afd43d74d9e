import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import type { FastifyInstance } from 'fastify'
import {
  challenges,
  challengeTo,
  claimsOf,
  json,
  logIn,
  overStores,
  password,
  postForm,
  refresh,
  signUp,
  type TestApp,
  withToken,
} from '../support/helper.ts'
import { isLong } from '../support/processes.ts'
import { holds } from '../support/property.ts'

/*
 * Random interleavings of everything that can happen to a session, against the real app and beside a model of it that
 * is written from the contract's table alone. To run a failure again: FC_SEED=<seed> npm test --
 * test/spec/refresh.property.test.ts
 */

const seconds = 1000
const settings = {
  AUTH_REFRESH_GRACE: '30s',
  AUTH_REFRESH_IDLE_TTL: '1h',
  AUTH_REFRESH_MAX_TTL: '6h',
  AUTH_ACCESS_TTL: '10m',
}
const [graceMs, idleMs, maxMs, accessMs] = [30 * seconds, 3600 * seconds, 6 * 3600 * seconds, 600 * seconds]
/** Less than what replicas may differ by: further back is a leap, after which no grace begins again. */
const mostBackMs = 50 * seconds

/** What one session meets; `back` counts from the newest token of its lineage. */
type Op =
  | { do: 'refresh' }
  | { do: 'refresh at once'; times: number }
  | { do: 'lose the response and retry' }
  | { do: 'replay'; back: number }
  | { do: 'refresh ahead of the store'; by: number }
  | { do: 'revoke a refresh token'; back: number }
  | { do: 'revoke the access token' }
  | { do: 'log out' }
  | { do: 'end by id'; asSession: number }
  | { do: 'end all' }
  | { do: 'flip a bit'; at: number }
  | { do: 'splice'; withSession: number }
  | { do: 'garbage'; text: string }

/** Ops of one step run at once, on different sessions. */
type Step =
  | { at: 'once'; ops: { session: number; op: Op }[] }
  | { at: 'clock'; byMs: number }
  | { at: 'end of grace'; session: number; offMs: number }
  | { at: 'restart' }

const sessionCount = 3
const session = fc.nat(sessionCount - 1)
const back = fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, fc.integer({ min: 1, max: 4 }))

const calmOp: fc.Arbitrary<Op> = fc.oneof(
  { weight: 12, arbitrary: fc.constant({ do: 'refresh' as const }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('refresh at once' as const), times: fc.integer({ min: 2, max: 8 }) }),
  },
  { weight: 4, arbitrary: fc.constant({ do: 'lose the response and retry' as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('refresh ahead of the store' as const),
      by: fc.integer({ min: 1, max: 9 }),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'revoke the access token' as const }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('flip a bit' as const), at: fc.nat(54 * 8 - 1) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('splice' as const), withSession: session }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('garbage' as const),
      text: fc.string({ unit: 'grapheme', maxLength: 100 }),
    }),
  },
)
const endingOp: fc.Arbitrary<Op> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('replay' as const), back }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('revoke a refresh token' as const), back: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.constant({ do: 'log out' as const }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('end by id' as const), asSession: session }) },
)
const calmStep: fc.Arbitrary<Step> = fc.record({
  at: fc.constant('once' as const),
  ops: fc.uniqueArray(fc.record({ session, op: calmOp }), {
    minLength: 1,
    maxLength: sessionCount,
    selector: (it) => it.session,
  }),
})
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 14, arbitrary: calmStep },
  {
    weight: 3,
    arbitrary: fc.record({ at: fc.constant('once' as const), ops: fc.tuple(fc.record({ session, op: endingOp })) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ at: fc.constant('clock' as const), byMs: fc.integer({ min: 1, max: graceMs }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ at: fc.constant('clock' as const), byMs: fc.integer({ min: graceMs, max: 3 * graceMs }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ at: fc.constant('end of grace' as const), session, offMs: fc.constantFrom(0, 0, 1, 1000) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ at: fc.constant('clock' as const), byMs: fc.integer({ min: accessMs, max: idleMs / 2 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ at: fc.constant('clock' as const), byMs: fc.integer({ min: idleMs, max: 2 * idleMs }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ at: fc.constant('clock' as const), byMs: fc.integer({ min: -mostBackMs, max: -1 }) }),
  },
  { weight: 1, arbitrary: fc.constant({ at: 'restart' as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      at: fc.constant('once' as const),
      ops: fc.tuple(fc.record({ session, op: fc.constant({ do: 'end all' as const }) })),
    }),
  },
)

interface Lineage {
  sid: string
  user: number
  /** refresh tokens in the order they were handed out, by counter */
  tokens: { counter: number; text: string }[]
  access: { text: string; isRevoked: boolean }
  createdAt: number
  rotatedAt: number
  hasEnded: boolean
  /** has been seen past its life; a clock that steps back may or may not find it again, so it is left alone */
  hasExpired: boolean
}

class World {
  now: number
  latest: number
  sessions: Lineage[] = []
  private test: TestApp

  constructor(test: TestApp) {
    this.test = test
    // Out of reach of how far the run before may step back.
    test.clock.now += 3600 * seconds
    this.now = test.clock.now
    this.latest = this.now
  }

  get app(): FastifyInstance {
    return this.test.app
  }
  get currentTest(): TestApp {
    return this.test
  }

  /** Two sessions of one user, and one of another. */
  async open(run: number): Promise<void> {
    for (const name of ['ada', 'bob']) await signUp(this.app, `${name}.${run}`)
    for (const user of [0, 0, 1]) {
      const { access_token, refresh_token } = await logIn(this.app, `${['ada', 'bob'][user]}.${run}`, password)
      this.sessions.push({
        sid: claimsOf(access_token)['sid'] as string,
        user,
        tokens: [{ counter: 0, text: refresh_token }],
        access: { text: access_token, isRevoked: false },
        createdAt: this.now,
        rotatedAt: this.now,
        hasEnded: false,
        hasExpired: false,
      })
    }
  }

  async take(step: Step): Promise<void> {
    if (step.at === 'restart') this.test = await this.test.restart()
    else if (step.at === 'clock') this.moveClock(step.byMs)
    else if (step.at === 'end of grace')
      await this.retryAtEndOfGrace(this.sessions[step.session] as Lineage, step.offMs)
    else await Promise.all(step.ops.map(({ session, op }) => this.apply(this.sessions[session] as Lineage, op)))
    await this.check()
  }

  moveClock(byMs: number): void {
    this.now = Math.max(this.now + byMs, this.latest - mostBackMs)
    this.latest = Math.max(this.latest, this.now)
    this.test.clock.now = this.now
    for (const it of this.sessions)
      if (this.latest >= it.rotatedAt + idleMs || this.latest >= it.createdAt + maxMs) it.hasExpired = true
  }

  private async retryAtEndOfGrace(it: Lineage, offMs: number): Promise<void> {
    this.moveClock(it.rotatedAt + graceMs + offMs - this.now)
    await this.apply(it, { do: 'replay', back: 1 })
  }

  /** What the contract says of presenting a counter; changes the model accordingly. */
  private present(it: Lineage, counter: number): 'rotated' | 'repeated' | 'refused' {
    const newest = newestOf(it)
    if (it.hasEnded || it.hasExpired) return 'refused'
    if (counter >= newest.counter) return 'rotated'
    if (counter === newest.counter - 1 && this.now - it.rotatedAt <= graceMs) return 'repeated'
    it.hasEnded = true
    return 'refused'
  }

  private async comeWith(it: Lineage, { counter, text }: { counter: number; text: string }): Promise<void> {
    const expected = this.present(it, counter)
    const response = await refresh(this.app, text)
    if (expected === 'refused')
      return expectRefusal(response, it.hasEnded ? 'a session that has ended' : 'a session that has expired')
    expectEqual(response.statusCode, 200, `a token that is to be ${expected}`)
    const answer = json(response)
    const newest = newestOf(it)
    if (expected === 'repeated')
      expectEqual(answer.refresh_token, newest.text, 'a benign retry gets the same successor')
    else {
      if (it.tokens.some((known) => known.text === answer.refresh_token))
        throw new Error('a rotation gave a token of before')
      it.tokens.push({ counter: counter + 1, text: answer.refresh_token })
      it.rotatedAt = this.now
    }
    expectEqual(claimsOf(answer.access_token)['sid'], it.sid, 'the session of the new access token')
    it.access = { text: answer.access_token, isRevoked: false }
  }

  private async apply(it: Lineage, op: Op): Promise<void> {
    const { app } = this
    // Lost and found by the clock: the contract leaves open what becomes of it.
    if (it.hasExpired && this.now < this.latest) return
    const newest = newestOf(it)
    const isGoodBearer = this.expectedChallenge(it) === undefined
    switch (op.do) {
      case 'refresh':
        return this.comeWith(it, newest)
      case 'refresh at once': {
        const expected = this.present(it, newest.counter)
        const responses = await Promise.all(Array.from({ length: op.times }, () => refresh(app, newest.text)))
        if (expected === 'refused') {
          for (const response of responses) expectRefusal(response, 'each of several at once')
          return
        }
        const answers = responses.map((response) => json(response))
        const successors = new Set(answers.map((answer) => answer.refresh_token))
        expectEqual(successors.size, 1, `lineages of ${op.times} refreshes at once`)
        it.tokens.push({ counter: newest.counter + 1, text: answers[0].refresh_token })
        it.rotatedAt = this.now
        it.access = { text: answers.at(-1).access_token, isRevoked: false }
        return
      }
      case 'lose the response and retry': {
        const before = this.present(it, newest.counter)
        const lost = await refresh(app, newest.text)
        if (before === 'refused') return expectRefusal(lost, 'before the loss')
        it.tokens.push({ counter: newest.counter + 1, text: json(lost).refresh_token })
        it.rotatedAt = this.now
        it.access = { text: json(lost).access_token, isRevoked: false }
        return this.comeWith(it, newest)
      }
      case 'replay': {
        const spent = it.tokens.at(-1 - op.back)
        return spent && this.comeWith(it, spent)
      }
      case 'refresh ahead of the store': {
        const counter = newest.counter + op.by
        return this.comeWith(it, { counter, text: app.refreshTokens.encode(it.sid, counter) })
      }
      case 'revoke a refresh token': {
        if (it.hasExpired) return
        const { text } = it.tokens.at(-1 - op.back) ?? newest
        expectEqual((await postForm(app, '/revoke', { token: text })).statusCode, 200, 'POST /revoke')
        it.hasEnded = true
        return
      }
      case 'revoke the access token': {
        expectEqual((await postForm(app, '/revoke', { token: it.access.text })).statusCode, 200, 'POST /revoke')
        // One that is not good (any more) is not remembered.
        if (isGoodBearer) it.access.isRevoked = true
        return
      }
      case 'log out': {
        const response = await withToken(app, it.access.text, { method: 'POST', url: '/logout' })
        expectEqual(response.statusCode, isGoodBearer ? 204 : 401, 'POST /logout')
        if (isGoodBearer) it.hasEnded = true
        return
      }
      case 'end by id': {
        const asker = this.sessions[op.asSession] as Lineage
        const mayAsk = this.expectedChallenge(asker) === undefined
        const response = await withToken(app, asker.access.text, {
          method: 'DELETE',
          url: `/users/me/sessions/${it.sid}`,
        })
        const isOwn = asker.user === it.user
        if (!mayAsk) return expectEqual(response.statusCode, 401, 'ending a session without a good token')
        if (!isOwn || it.hasEnded)
          return expectEqual(response.statusCode, 404, "ending someone else's session, or none")
        if (!it.hasExpired) expectEqual(response.statusCode, 204, "ending a session of one's own")
        it.hasEnded = response.statusCode === 204
        return
      }
      case 'end all': {
        const response = await withToken(app, it.access.text, { method: 'DELETE', url: '/users/me/sessions' })
        expectEqual(response.statusCode, isGoodBearer ? 204 : 401, 'DELETE /users/me/sessions')
        if (isGoodBearer) for (const other of this.sessions) if (other.user === it.user) other.hasEnded = true
        return
      }
      case 'flip a bit':
        return this.expectGarbage(flipBit(newest.text, op.at))
      case 'splice': {
        const other = newestOf(this.sessions[op.withSession] as Lineage).text
        return other === newest.text
          ? undefined
          : this.expectGarbage(newest.text.slice(0, 4 + 28) + other.slice(4 + 28))
      }
      case 'garbage':
        return this.expectGarbage(op.text)
    }
  }

  /** A token that the server did not make: nothing comes of it, at any door. */
  private async expectGarbage(text: string): Promise<void> {
    const { app } = this
    const response = await refresh(app, text)
    expectEqual(response.statusCode, 400, 'garbage at /token')
    const revoked = await postForm(app, '/revoke', { token: text })
    if (text !== '') expectEqual(revoked.statusCode, text.includes('\0') ? 400 : 200, 'garbage at /revoke')
    const bearer = await app.inject({
      method: 'POST',
      url: '/logout',
      headers: { authorization: `Bearer ${encodeURIComponent(text)}` },
    })
    expectEqual(bearer.statusCode, 401, 'garbage at /logout')
  }

  private expectedChallenge({ access, hasEnded }: Lineage): string | undefined {
    const iat = claimsOf(access.text)['iat'] as number
    if (this.now >= iat * 1000 + accessMs) return challenges.expired
    return hasEnded || access.isRevoked ? challenges.revoked : undefined
  }

  /** After each step: every session is as the model has it, whichever was touched. */
  private async check(): Promise<void> {
    for (const [index, it] of this.sessions.entries()) {
      expectEqual(
        await challengeTo(this.app, it.access.text),
        this.expectedChallenge(it),
        `the access token of session ${index}`,
      )
      const row = await this.app.store.findSession(it.sid)
      if (it.hasEnded || it.hasExpired) continue
      expectEqual(row?.counter, newestOf(it).counter, `the counter of session ${index}`)
    }
  }

  /** At the end: exactly the live sessions can go on, each by its newest token. */
  async finish(): Promise<void> {
    for (const it of this.sessions) await this.apply(it, { do: 'refresh' })
  }
}

const newestOf = (it: Lineage) => it.tokens.at(-1) as { counter: number; text: string }

function flipBit(token: string, at: number): string {
  const bytes = Buffer.from(token.slice(4), 'base64url')
  bytes[at >> 3] = (bytes[at >> 3] as number) ^ (1 << (at & 7))
  return `lkr_${bytes.toString('base64url')}`
}

function expectEqual(actual: unknown, expected: unknown, what: string): void {
  if (!isDeepStrictEqual(actual, expected)) throw new Error(`${what}: expected ${expected}, got ${actual}`)
}

function expectRefusal(response: { statusCode: number; body: string }, what: string): void {
  expectEqual(response.statusCode, 400, what)
  expectEqual(JSON.parse(response.body).error, 'invalid_grant', what)
}

overStores(
  'a session has one lineage; retries are benign, replays end it, and nothing touches any other',
  async (t, build) => {
    let test = await build(settings)
    let run = 0
    const property = fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 40, size: 'max' }), async (steps) => {
      run += 1
      const world = new World(test)
      try {
        await world.open(run)
        for (const step of steps) await world.take(step)
        await world.finish()
      } finally {
        test = world.currentTest
      }
    })
    const numRuns = (test.config.DATABASE_URL ? 6 : 15) * (isLong ? 20 : 1)
    await holds(t, property, { numRuns, interruptAfterTimeLimit: 40_000 })
    t.comment(`${run} interleavings`)
  },
)
