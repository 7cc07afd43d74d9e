import { existsSync } from 'node:fs'
import type { Browser } from 'playwright-core'
import type { Scope } from './basics.ts'

/** Where Debian, Ubuntu, Fedora, Alpine and macOS have it. `npm ci` downloads no browser. */
const places = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
]

/** The browser that `CHROMIUM` names, or one of this machine; undefined where there is none. */
export const chromium: string | undefined = process.env['CHROMIUM'] || places.find((path) => existsSync(path))

/** Why a test in the browser is skipped; false where it is not. */
export const withoutChromium: string | false =
  chromium === undefined && 'no Chromium: apt-get install chromium, or name one in CHROMIUM'

/** Starts the browser. It cannot reach anything but this machine. */
export async function startChromium(t: Scope): Promise<Browser> {
  const { chromium: launcher } = await import('playwright-core')
  const browser = await launcher.launch({
    executablePath: chromium as string,
    // Root has none, nor has every container; its content is ours.
    chromiumSandbox: false,
    args: [
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1, EXCLUDE ::1',
      '--disable-dev-shm-usage',
    ],
  })
  t.teardown(() => browser.close())
  return browser
}
