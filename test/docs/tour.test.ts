import { join } from 'node:path'
import t from 'tap'
import { answerOf, behind, openBrowser } from '../support/browser.ts'
import { newDir } from '../support/helper.ts'
import { readPage } from '../support/pages.ts'
import { latchkeyBuilt, latchkeyHere, paste, shells, stepsOf, whyNot } from '../support/pasted.ts'
import { startHere } from '../support/processes.ts'

const tour = stepsOf(/^## A tour with curl$(.*?)^## /ms.exec(readPage('README.md'))?.[1] ?? '')
/** What a person takes from the address bar. */
const steps = tour.map(({ command, answer }) => ({
  command: command.replace(/^CODE=lkc_…$/m, 'CODE=$(browse)'),
  answer,
}))
const authorizeUrl = /'http:\/\/127\.0\.0\.1:3000(\/authorize\?[^']+)'/.exec(readPage('README.md'))?.[1] ?? ''

/** Signs in as Ada, allows it, and says which code the browser is sent away with. */
async function browse(origin: string): Promise<{ code: number; text: string }> {
  const browser = openBrowser(behind(origin))
  const consent = await browser.signIn('ada', 'correct horse battery staple', await browser.open(authorizeUrl))
  return { code: 0, text: answerOf(await browser.submit(consent, { decision: 'allow' }))['code'] ?? 'none' }
}

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
    await paste(t, steps, { shell, dir, origin, env, stands: { npm, browse: () => browse(origin) } })
  })
}
