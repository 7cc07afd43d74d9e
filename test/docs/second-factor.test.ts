import { TOTP } from 'otpauth'
import t, { type Test } from 'tap'
import { type Build, listen, logIn, newDir, onOneStore } from '../support/helper.ts'
import { readPage } from '../support/pages.ts'
import { latchkeyHere, paste, type Stand, stepsOf, whyNot } from '../support/pasted.ts'

/* The commands of docs/second-factor.md, pasted into a shell. The clock moves when they sleep. */

const page = readPage('docs/second-factor.md')
const sectionOf = (name: string) => page.split(/^## /m).find((section) => section.startsWith(`${name}\n`)) ?? ''

const title = 'what docs/second-factor.md shows is what is answered'
const why = whyNot('bash')
if (why) t.test(title, { skip: why }, async () => {})
else onOneStore(title, pasteThePage)

async function pasteThePage(t: Test, build: Build): Promise<void> {
  const dir = await newDir(t)
  const first = await build({ AUTH_DATA_DIR: dir })
  const { clock, config } = first
  const stands: Record<string, Stand | string> = {
    // As the first section has it.
    field: `#!/bin/sh\nsed "s/.*\\"$1\\":\\"\\([^\\"]*\\)\\".*/\\1/"\n`,
    sleep: async ([seconds]) => {
      clock.now += Number(seconds) * 1000
      return { code: 0, text: '' }
    },
    oathtool: async (args) => {
      const code = new TOTP({ secret: args.at(-1) as string }).generate({ timestamp: clock.now })
      return { code: 0, text: `${code}\n` }
    },
    npm: latchkeyHere({ AUTH_DATA_DIR: dir, AUTH_ISSUER: config.AUTH_ISSUER }),
  }
  async function pasteSection(name: string, origin: string, env = {}): Promise<void> {
    const steps = stepsOf(sectionOf(name))
    t.ok(steps.length > 1, name)
    await paste(t, steps, { shell: 'bash', dir, origin, env, stands })
  }

  const origin = await listen(first.app)
  await pasteSection('Try it', origin)
  await pasteSection('Passkeys', origin, { ACCESS: (await logIn(first.app, 'grace')).access_token })
  const strict = await listen((await first.restart({ AUTH_MFA: 'required' })).app)
  await pasteSection('Who has to have one', strict)
  await pasteSection('When somebody has lost theirs', strict)
}
