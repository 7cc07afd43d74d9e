import { setTimeout as sleep } from 'node:timers/promises'
import { until } from '../support/client-helper.ts'
import { onOneStore, overStores } from '../support/helper.ts'

onOneStore(
  'a job: no round begins before the one before has ended, and one that failed is logged and tried again',
  async (t, build) => {
    const { app, logs } = await build()
    let rounds = 0
    let under = 0
    const thirdRound = new Promise<void>((resolve) => {
      app.jobs.every(
        1,
        async () => {
          under += 1
          t.equal(under, 1, 'alone')
          rounds += 1
          await sleep(5)
          under -= 1
          if (rounds === 1) throw new Error('a bad moment')
          if (rounds === 3) resolve()
        },
        'the job failed',
      )
    })
    await thirdRound
    t.equal(logs.filter(({ msg }) => msg === 'the job failed').length, 1)
    await app.close()
    const before = rounds
    await sleep(20)
    t.equal(rounds, before, 'none after the app has closed')
  },
)

/** Long enough for the others to ask for the lease too. */
const othersMs = 200

overStores(
  'a job for one runner has one round a pause among all processes, and goes on when the runner ends',
  async (t, build) => {
    const first = await build()
    const apps = [first.app, (await first.beside()).app, (await first.beside()).app]
    const hourMs = 3_600_000
    const rounds: number[] = []
    const beginEach = () =>
      apps.forEach((app, i) => {
        // A pause of an hour by the clock, looked at after a millisecond.
        app.jobs.every(hourMs, async () => void rounds.push(i), 'failed', { firstPauseMs: 1, oneRunner: 'mail' })
      })
    beginEach()
    await until(() => rounds.length > 0)
    await sleep(othersMs)
    t.equal(rounds.length, 1, 'one of three')

    first.clock.now += hourMs / 2
    beginEach()
    await sleep(othersMs)
    t.equal(rounds.length, 1, 'its lease lasts for a whole pause')

    const [runner = 0] = rounds
    await apps[runner]?.close()
    apps.splice(runner, 1)
    first.clock.now += hourMs
    beginEach()
    await until(() => rounds.length > 1)
    await sleep(othersMs)
    t.equal(rounds.length, 2, 'then another takes over')
  },
)
