import { describeFailure } from './failure.ts'
import { openPlace, type Place } from './places.ts'
import { type ChildMessage, examine } from './store-check.ts'

/* The child of `latchkey store check`, which opens LMDB. */

const progressMs = 100

process.once('message', async ({ place, secrets }: { place: Place; secrets: string[] }) => {
  let sentAt = 0
  try {
    const store = await openPlace(place, { mustExist: true })
    const examined = await examine(store, secrets, (table, read) => {
      if (performance.now() - sentAt < progressMs) return
      sentAt = performance.now()
      process.send?.({ progress: [table, read] } satisfies ChildMessage)
    })
    await store.close()
    process.send?.({ examined } satisfies ChildMessage)
  } catch (error) {
    process.send?.({ failed: describeFailure(error) } satisfies ChildMessage)
  }
  process.disconnect()
})
