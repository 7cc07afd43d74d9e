import { describeFailure } from '../failure.ts'
import { lookInto, type Sought } from './store.ts'
import type { ChildMessage } from './store-stages.ts'

/* The child of `latchkey doctor`, which opens LMDB. */

process.once('message', async (sought: Sought) => {
  const send = (message: ChildMessage) => process.send?.(message)
  try {
    for await (const stage of lookInto(sought)) send({ stage })
  } catch (error) {
    send({ failed: describeFailure(error).line })
  }
  process.disconnect()
})
