import { join } from 'node:path'
import t from 'tap'
import { newDir } from '../support/helper.ts'
import { readPage } from '../support/pages.ts'
import { latchkeyBuilt, latchkeyHere, paste, shells, stepsOf, whyNot } from '../support/pasted.ts'
import { startHere } from '../support/processes.ts'

const steps = stepsOf(/^## A tour with curl$(.*?)^## /ms.exec(readPage('README.md'))?.[1] ?? '')

for (const shell of Object.keys(shells)) {
  t.test(`the tour of the README works in ${shell}`, { skip: whyNot(shell) }, async (t) => {
    t.ok(steps.length > 12)
    const dir = await newDir(t)
    // The issuer and the cost of hashing are the defaults, as in the README.
    const env = {
      AUTH_DATA_DIR: join(dir, 'data'),
      AUTH_ISSUER: 'http://localhost:3000',
      // The restart for these is not pasted.
      AUTH_MAIL_FROM: 'accounts@example.com',
      AUTH_MAIL_DIR: join(dir, 'mails'),
    }
    const { origin } = await startHere(t, env)
    // The program itself in the first shell, and in the others without its start: what differs is what it is given.
    const npm = shell === 'bash' ? latchkeyBuilt() : latchkeyHere(env)
    await paste(t, steps, { shell, dir, origin, env, stands: { npm } })
  })
}
