import { setTimeout as sleep } from 'node:timers/promises'
import { overStores } from '../support/helper.ts'

/** More than the pause between two steps of a sweep. */
const severalStepsMs = 600

overStores('closing waits for the sweep under way, and begins no other', async (t, build) => {
  const { app, logs } = await build()
  let release = () => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  let begun = 0
  let isStoreOpen = true
  const sweep = app.store.sweep.bind(app.store)
  const close = app.store.close.bind(app.store)
  Object.assign(app.store, {
    async sweep(...args: Parameters<typeof sweep>) {
      begun += 1
      await held
      const swept = await sweep(...args)
      t.ok(isStoreOpen, 'the store is open until the end of the sweep')
      // There is more to sweep, so the next step would follow soon.
      return { ...swept, cursor: 'more' }
    },
    close() {
      isStoreOpen = false
      return close()
    },
  })
  while (begun === 0) await sleep(20)
  const closed = app.close()
  await sleep(100)
  t.ok(isStoreOpen)
  release()
  await closed
  await sleep(severalStepsMs)
  t.equal(begun, 1)
  t.notOk(logs.find(({ msg }) => msg === 'the store could not be swept'))
})
