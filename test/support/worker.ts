import { once } from 'node:events'
import { pathToFileURL } from 'node:url'
import t from 'tap'

/* A process of test files, one after the other: `suite.ts` names each, and ends the process by closing the channel. */

/** Time that a test file may take, in milliseconds, when it does not set a time itself. */
const fileMs = 300_000

let isBusy = false

process.on('message', async (file: string) => {
  isBusy = true
  t.setTimeout(fileMs)
  try {
    await import(pathToFileURL(file).href)
  } catch (error) {
    t.threw(error)
  }
  // A `t.end()` of the file itself is not carried out before its tests are.
  if (t.ended) {
    console.error("tap's root has ended, so it refuses tests: a file before has `t.teardown` or `t.testdir` at its top")
    process.exit(1)
  }
  while (!t.idle) await once(t, 'idle')
  isBusy = false
  // Not by `t.comment`, which keeps a comment back until the next line.
  process.stdout.write('# file ended\n')
})

// The run was given up.
process.on('disconnect', () => isBusy && process.exit(1))

t.comment('ready')
// tap lets the process end when only the channel is open.
process.channel?.ref()
