import fc from 'fast-check'
import { clockSkewMs } from '../../domain/time.ts'
import {
  challengeTo,
  claimsOf,
  json,
  logIn,
  overStores,
  postForm,
  refresh,
  signUp,
  type TestApp,
} from '../support/helper.ts'
import { isLong } from '../support/processes.ts'
import { holds } from '../support/property.ts'

/*
 * A clock that is set to wrong times, ahead and behind by hours and days, and put right again, while time itself
 * passes. Whatever it says, nothing that was spent or revoked comes back; and once it is right, what is alive goes on
 * and what is over is over. To run a failure again: FC_SEED=<seed> npm test -- test/spec/clock.property.test.ts
 */

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour
const [idleMs, maxMs] = [2 * day, 6 * day]
const settings = { AUTH_REFRESH_GRACE: '30s', AUTH_REFRESH_IDLE_TTL: '2d', AUTH_REFRESH_MAX_TTL: '6d' }

type Step =
  | { do: 'set the clock'; wrongByMs: number }
  | { do: 'pass'; ms: number }
  | { do: 'log in' | 'sweep' | 'restart' }
  | { do: 'refresh' | 'replay' | 'revoke' | 'log out'; session: number }

/** Short enough for a leap to be a mistake that goes by. */
const passing = fc.integer({ min: 1, max: 20 }).map((minutes) => ({ do: 'pass' as const, ms: minutes * minute }))
const wrong = (least: number) =>
  fc
    .oneof(fc.integer({ min: least, max: 10 * day }), fc.integer({ min: Math.max(least, -2 * hour), max: 2 * hour }))
    .map((wrongByMs) => ({ do: 'set the clock' as const, wrongByMs }))
const session = fc.nat(3)
const steps = (least: number): fc.Arbitrary<Step> =>
  fc.oneof(
    { weight: 4, arbitrary: wrong(least) },
    { weight: 5, arbitrary: fc.constant({ do: 'set the clock' as const, wrongByMs: 0 }) },
    { weight: 4, arbitrary: passing },
    { weight: 2, arbitrary: fc.constantFrom({ do: 'log in' as const }, { do: 'sweep' as const }) },
    { weight: 1, arbitrary: fc.constant({ do: 'restart' as const }) },
    {
      weight: 8,
      arbitrary: fc.record({ do: fc.constantFrom('refresh' as const, 'refresh' as const, 'replay' as const), session }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('revoke' as const, 'log out' as const), session }) },
  )

interface Lineage {
  /** refresh tokens, the newest last */
  tokens: string[]
  access: string
  isRevoked: boolean
  isOver: boolean
  /** a spent token came while the clock was wrong: it ends the session, unless that clock says that it has expired */
  mayBeOver?: boolean
  openedAt: number
  usedAt: number
}

class World {
  private test: TestApp
  private readonly name: string
  private readonly isOnlyAhead: boolean
  private passedMs = 0
  private wrongByMs = 0
  private readonly startedAt: number
  readonly sessions: Lineage[] = []
  /** every access token that was good when it was revoked */
  private readonly revoked: string[] = []

  constructor(test: TestApp, name: string, isOnlyAhead: boolean) {
    this.test = test
    this.name = name
    this.isOnlyAhead = isOnlyAhead
    this.startedAt = test.clock.now
  }
  get current() {
    return this.test
  }
  private get trueNow() {
    return this.startedAt + this.passedMs
  }

  private async setClock(): Promise<void> {
    const { clock, app } = this.test
    clock.now = this.trueNow + this.wrongByMs
    // It has heard of the store a moment ago, however long the moment was, and forgotten what is over.
    await app.revocations.poll()
  }

  async logIn(): Promise<void> {
    const { access_token, refresh_token } = await logIn(this.test.app, this.name)
    const at = { openedAt: this.trueNow, usedAt: this.trueNow }
    this.sessions.push({ tokens: [refresh_token], access: access_token, isRevoked: false, isOver: false, ...at })
  }

  async take(step: Step): Promise<void> {
    const { app, clock } = this.test
    const of = 'session' in step ? this.sessions[step.session] : undefined
    if (step.do === 'set the clock') this.wrongByMs = step.wrongByMs
    else if (step.do === 'pass') {
      this.passedMs += step.ms
      clock.passedMs = (clock.passedMs ?? 0) + step.ms
    } else if (step.do === 'sweep') await app.sweeper.round()
    else if (step.do === 'log in' && this.sessions.length < 4) await this.logIn()
    else if (step.do === 'restart' && this.wrongByMs === 0) this.test = await this.test.restart()
    else if (of && step.do === 'refresh') await this.refresh(of)
    else if (of && step.do === 'replay') await this.replay(of)
    else if (of && step.do === 'revoke') {
      const isGood = (await challengeTo(app, of.access)) === undefined
      await postForm(app, '/revoke', { token: of.access })
      of.isRevoked ||= isGood
      if (isGood) this.revoked.push(of.access)
    } else if (of && step.do === 'log out') {
      await postForm(app, '/revoke', { token: of.tokens.at(-1) as string })
      of.isOver = of.isRevoked = true
    }
    await this.setClock()
    await this.check()
  }

  private async refresh(of: Lineage): Promise<void> {
    const response = await refresh(this.test.app, of.tokens.at(-1) as string)
    if (response.statusCode !== 200) {
      const isDue = this.isOnlyAhead && this.wrongByMs === 0 && !of.isOver && !of.mayBeOver
      const isAlive = this.trueNow - of.usedAt < idleMs && this.trueNow - of.openedAt < maxMs
      if (isDue && isAlive) throw new Error(`a live session was refused: ${response.body}`)
      return
    }
    if (of.isOver) throw new Error('a session that has ended came back')
    of.tokens.push(json(response).refresh_token)
    Object.assign(of, { access: json(response).access_token, isRevoked: false, usedAt: this.trueNow })
  }

  /** One before the last but one is spent for good, whatever the clock says: it ends the session. */
  private async replay(of: Lineage): Promise<void> {
    const spent = of.tokens.at(-3)
    if (spent === undefined) return
    const response = await refresh(this.test.app, spent)
    if (response.statusCode !== 400) throw new Error(`a spent token is good again: ${response.statusCode}`)
    if (this.wrongByMs === 0 && this.isOnlyAhead) of.isOver = of.isRevoked = true
    else of.mayBeOver = true
  }

  private async check(): Promise<void> {
    for (const access of this.revoked)
      if ((await challengeTo(this.test.app, access)) === undefined) throw new Error('a revoked token came back')
    for (const { access, isRevoked } of this.sessions) {
      if (isRevoked && (await challengeTo(this.test.app, access)) === undefined)
        throw new Error('a token of a session that has ended came back')
    }
  }

  /** The clock is right for good: nobody outlives the limits counted from now. */
  async finish(): Promise<void> {
    await this.take({ do: 'set the clock', wrongByMs: 0 })
    await this.take({ do: 'sweep' })
    this.passedMs += idleMs + clockSkewMs
    await this.setClock()
    for (const [i, of] of this.sessions.entries()) {
      const { statusCode } = await refresh(this.test.app, of.tokens.at(-1) as string)
      if (statusCode !== 400) throw new Error(`session ${i} has outlived its idle life`)
    }
    const { access_token, refresh_token } = await logIn(this.test.app, this.name)
    if ((await challengeTo(this.test.app, access_token)) !== undefined) throw new Error('a new token is refused')
    if ((await refresh(this.test.app, refresh_token)).statusCode !== 200) throw new Error('a new session is refused')
    if (claimsOf(access_token)['iat'] === undefined) throw new Error('no token')
  }
}

for (const [how, least] of [
  ['ahead', hour],
  ['both ways', -10 * day],
] as const) {
  overStores(
    `a clock that is wrong ${how} by hours and days brings nothing back, and stops nothing once it is right`,
    async (t, build) => {
      let test = await build(settings)
      let run = 0
      const property = fc.asyncProperty(
        fc.array(steps(least), { minLength: 10, maxLength: 30, size: 'max' }),
        async (list) => {
          run += 1
          test.clock.now += 30 * day
          await test.app.revocations.catchUp()
          const name = `ada.${run}`
          await signUp(test.app, name)
          const world = new World(test, name, least > 0)
          try {
            await world.logIn()
            for (const step of list) await world.take(step)
            await world.finish()
          } finally {
            test = world.current
          }
        },
      )
      const numRuns = (test.config.DATABASE_URL ? 4 : 8) * (isLong ? 10 : 1)
      await holds(t, property, { numRuns, interruptAfterTimeLimit: 40_000 })
      t.comment(`${run} lives`)
    },
  )
}
