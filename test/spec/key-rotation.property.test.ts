import fc from 'fast-check'
import { decodeProtectedHeader } from 'jose'
import { challenges, overStores, storeOf, type TestApp, withToken } from '../support/helper.ts'
import { isLong } from '../support/processes.ts'
import { holds } from '../support/property.ts'

/*
 * Two processes on one store whose clock is set to wrong times, and who are killed before and after they write. However
 * it goes, each has a key to sign with, nobody refuses a token that is alive, and no token of a revoked key is taken.
 * To run a failure again: FC_SEED=<seed> npm test -- test/spec/key-rotation.property.test.ts
 */

const minute = 60_000
const day = 24 * 60 * minute
const ttlMs = 10 * minute
const kidOf = (token: string) => decodeProtectedHeader(token).kid as string

type Step =
  | { who: 0 | 1; do: 'look'; killed: 'never' | 'before the write' | 'after the write' }
  | { who: 0 | 1; do: 'rotate' | 'revoke' | 'restart' | 'right the clock' }
  | { who: 0 | 1; do: 'pass'; minutes: number }
  | { who: 0 | 1; do: 'pass by the right clock'; hours: number }
  | { who: 0 | 1; do: 'set the clock'; wrongByMs: number }
const who = fc.constantFrom(0 as const, 1 as const)
const wrong = fc.oneof(
  fc.integer({ min: -200 * day, max: 400 * day }),
  fc.constantFrom(-2 * minute, 2 * minute, -day, day, 90 * day),
)
const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('look' as const),
      who,
      killed: fc.constantFrom(
        'never' as const,
        'never' as const,
        'before the write' as const,
        'after the write' as const,
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom('rotate' as const, 'revoke' as const, 'restart' as const), who }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('right the clock' as const), who }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('set the clock' as const), who, wrongByMs: wrong }) },
  // A leap that lasts for an hour is believed, so a wrong one lasts for less.
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('pass' as const), who, minutes: fc.integer({ min: 1, max: 4 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('pass by the right clock' as const),
      who,
      hours: fc.integer({ min: 1, max: 2_000 }),
    }),
  },
)

class World {
  readonly processes: [TestApp, TestApp]
  private wrongByMs = 0
  private trueNow: number
  private tokens: { token: string; until: number }[] = []
  private readonly revoked: string[] = []

  constructor(processes: [TestApp, TestApp]) {
    this.processes = processes
    this.trueNow = processes[0].clock.now
  }
  private get apps() {
    return this.processes.map(({ app }) => app)
  }

  private async pass(ms: number): Promise<void> {
    const { clock } = this.processes[0]
    this.trueNow += ms
    clock.passedMs = (clock.passedMs ?? 0) + ms
    clock.now = this.trueNow + this.wrongByMs
    // Each has heard of the store a moment ago, however long the moment was.
    for (const app of this.apps) await app.revocations.catchUp()
  }
  private async restart(who: 0 | 1): Promise<void> {
    this.processes[who] = await this.processes[who].restart()
  }

  async take(step: Step): Promise<void> {
    const { app } = this.processes[step.who]
    if (step.do === 'pass') await this.pass(step.minutes * minute)
    else if (step.do === 'set the clock') this.wrongByMs = step.wrongByMs
    else if (step.do === 'right the clock') this.wrongByMs = 0
    else if (step.do === 'pass by the right clock') {
      this.wrongByMs = 0
      await this.pass(step.hours * 60 * minute)
      // Each has looked meanwhile, and seen what another has removed.
      for (const app of [...this.apps, ...this.apps]) await app.signingKeys.poll()
    } else if (step.do === 'rotate') await app.signingKeys.rotateNow(app, { isLeaked: false })
    else if (step.do === 'revoke') {
      const { kid } = app.signingKeys.current()
      await app.signingKeys.revoke(app, kid)
      this.revoked.push(kid)
    } else if (step.do === 'restart') await this.restart(step.who)
    else if (step.do === 'look' && step.killed === 'never') await app.signingKeys.poll()
    else if (step.do === 'look') {
      const { addSigningKey, removeSigningKey } = storeOf(app)
      const killed = <Of extends unknown[]>(write: (...of: Of) => Promise<unknown>) => ({
        async write(...of: Of): Promise<never> {
          if (step.killed === 'after the write') await write(...of)
          throw new Error('killed')
        },
      })
      const [add, remove] = [killed(addSigningKey).write, killed(removeSigningKey).write]
      Object.assign(app.store, { addSigningKey: add, removeSigningKey: remove })
      await app.signingKeys.poll().catch(() => {})
      await this.restart(step.who)
    }
    // An unknown kid has the store read once a second.
    await this.pass(1_001)
    await this.check()
  }

  private async check(): Promise<void> {
    const aud = this.processes[0].config.AUTH_AUDIENCE
    const subject = { sub: 'svc', client_id: 'svc', aud, generations: { user: 0, client: 0 } }
    const isRight = this.wrongByMs === 0
    const made = await Promise.all(this.apps.map((app) => app.accessTokens.issue(subject)))
    for (const token of made) if (this.revoked.includes(kidOf(token))) throw new Error('a revoked key signs')
    this.tokens = this.tokens.filter(({ until }) => until > this.trueNow)
    const alive = isRight ? this.tokens.filter(({ token }) => !this.revoked.includes(kidOf(token))) : []
    for (const [i, app] of this.apps.entries()) {
      for (const token of [...made, ...alive.map(({ token }) => token)])
        if (!(await isTaken(app, token)))
          throw new Error(
            `process ${i} refuses a token of ${kidOf(token)}: ${JSON.stringify(this.processes[i]?.logs.at(-1))}`,
          )
      for (const { token } of this.tokens)
        if (this.revoked.includes(kidOf(token)) && (await isTaken(app, token)))
          throw new Error('a token of a revoked key is taken')
    }
    if (isRight) this.tokens.push(...made.map((token) => ({ token, until: this.trueNow + ttlMs })))
  }

  /** Who looks again finds nothing to do. */
  async finish(): Promise<void> {
    await this.take({ do: 'right the clock', who: 0 })
    for (const app of [...this.apps, ...this.apps]) await app.signingKeys.poll()
    const before = (await storeOf(this.processes[0].app).listSigningKeys()).length
    for (const app of this.apps) await app.signingKeys.poll()
    const after = (await storeOf(this.processes[0].app).listSigningKeys()).length
    if (after !== before) throw new Error(`${after - before} keys more, at the next look`)
    await this.take({ do: 'pass by the right clock', who: 0, hours: 24 * 89 })
    for (let looks = 0; looks < 3; looks++) {
      for (const app of this.apps) await app.signingKeys.poll()
      await this.pass(25 * 60 * minute)
    }
    for (const app of [...this.apps, ...this.apps]) await app.signingKeys.poll()
    const left = (await storeOf(this.processes[0].app).listSigningKeys()).length
    if (left > 2) throw new Error(`${left} keys are left in the end`)
  }
}

/** As far as its key goes: a clock that was set back far has tokens count as revoked. */
async function isTaken(app: TestApp['app'], token: string): Promise<boolean> {
  const { statusCode, headers } = await withToken(app, token, { url: '/verify' })
  return statusCode === 204 || headers['www-authenticate'] === challenges.revoked
}

overStores(
  'keys: whatever the clock says and whoever is killed, no token that is alive is refused',
  async (t, build) => {
    let run = 0
    const first = await build()
    let processes: [TestApp, TestApp] = [first, await first.beside()]
    const property = fc.asyncProperty(fc.array(steps, { minLength: 8, maxLength: 25, size: 'max' }), async (list) => {
      run += 1
      const world = new World(processes)
      try {
        for (const step of list) await world.take(step)
        await world.finish()
      } catch (error) {
        // So that a shorter way to it can be looked for.
        await world.finish().catch(() => {})
        throw error
      } finally {
        processes = world.processes
      }
    })
    const numRuns = (first.config.DATABASE_URL ? 3 : 8) * (isLong ? 20 : 1)
    await holds(t, property, { numRuns, interruptAfterTimeLimit: isLong ? 300_000 : 20_000 })
    t.comment(`${run} lives`)
  },
)
