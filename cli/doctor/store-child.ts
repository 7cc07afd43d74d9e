import { describeFailure } from '../failure.ts'
import type { Place } from '../places.ts'
import { lookInto } from './store.ts'
import type { ChildMessage } from './store-stages.ts'

/* The child of `latchkey doctor`, which opens LMDB. */

process.once('message', async (place: Place) => {
  const send = (message: ChildMessage) => process.send?.(message)
  try {
    for await (const stage of lookInto(place)) send({ stage })
  } catch (error) {
    send({ failed: describeFailure(error).line })
  }
  process.disconnect()
})
