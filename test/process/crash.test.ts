import t from 'tap'
import { type Plan, runKills } from '../crash/run.ts'

/*
 * Some of the kills that `npm run test:crash` makes by the hundred, and the same ledger: whatever was acknowledged
 * holds, and what was in doubt is whole.
 */

const seed = Number(process.env['LATCHKEY_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

const plans: Pick<Plan, 'store' | 'kinds'>[] = [
  { store: 'lmdb', kinds: ['start'] },
  { store: 'postgres', kinds: ['migration', 'start', 'database'] },
]

for (const { store, kinds } of plans) {
  t.test(`kill -9 loses nothing that was acknowledged [${store}]`, async (t) => {
    const checkEvery = Number.POSITIVE_INFINITY
    const { ledger } = await runKills(t, { store, kinds, seed, checkEvery, form: 'short' })
    t.same(ledger.wrong, [], `seed ${seed}`)
    t.ok(ledger.writes >= 25, `${ledger.writes} writes were acknowledged, ${ledger.doubts} in doubt`)
  })
}
