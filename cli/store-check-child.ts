import { explain } from './explain.ts'
import { openPlace, type Place } from './places.ts'
import { examine, type Said } from './store-check.ts'

/* The process of `latchkey store check` that LMDB is in. */

const progressMs = 100

process.once('message', async ({ place, secrets }: { place: Place; secrets: string[] }) => {
  let saidAt = 0
  try {
    const store = await openPlace(place, { mustExist: true })
    const examined = await examine(store, secrets, (table, read) => {
      if (performance.now() - saidAt < progressMs) return
      saidAt = performance.now()
      process.send?.({ progress: [table, read] } satisfies Said)
    })
    await store.close()
    process.send?.({ examined } satisfies Said)
  } catch (error) {
    process.send?.({ failed: explain(error) } satisfies Said)
  }
  process.disconnect()
})
