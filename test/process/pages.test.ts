import { mkdir, readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { textsOf } from '../../pages/texts/index.ts'
import { startChromium, withoutChromium } from '../support/chromium.ts'
import { callerFrom } from '../support/client-helper.ts'
import { type Build, giveEmail, listen, onOneStore, password, signUp, storeOf } from '../support/helper.ts'
import { mailsInto } from '../support/mail.ts'

/*
 * The pages in a browser, without script: each in every state, in both languages, light and dark, on the narrowest screen
 * (WCAG 2.2, 1.4.10). `LATCHKEY_SHOTS=DIR` keeps pictures of all of them, narrow and wide, to be looked at.
 */

const shots = process.env['LATCHKEY_SHOTS']
const axeSource = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
/** Of a page that stands alone, nothing is to be said about regions of an application. */
const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
const narrow = 320
const newPassword = 'seven grey herons on a quay'

interface Finding {
  id: string
  nodes: { html: string; failureSummary: string }[]
}

/** Runs in a window that has script and axe, where types of the browser are not known: looks at a copy of a page. */
const judgeCopy = `async ([lang, markup]) => {
  const root = document.documentElement
  root.lang = lang
  root.innerHTML = markup
  await new Promise((resolve) => document.querySelector('link[rel=stylesheet]').addEventListener('load', resolve))
  return (await axe.run({ runOnly: ${JSON.stringify(tags)} })).violations
}`

/** What axe finds in a page. It needs script itself, and so a window of its own. */
async function findings(page: Page, judge: Page): Promise<string[]> {
  const copy = await page.evaluate('[document.documentElement.lang, document.documentElement.innerHTML]')
  const found = (await judge.evaluate(`(${judgeCopy})(${JSON.stringify(copy)})`)) as Finding[]
  return found.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html} ${node.failureSummary}`))
}

const title = 'every page passes axe-core and fits a narrow screen, in both languages, light and dark, without script'
if (withoutChromium) t.test(title, { skip: withoutChromium }, async () => {})
else onOneStore(title, lookAtPages)

async function lookAtPages(t: Test, build: Build): Promise<void> {
  const { app } = await build({ ...(await mailsInto(t)), AUTH_THROTTLE: 'off' })
  const origin = await listen(app)
  const browser = await startChromium(t)
  for (const [locale, colorScheme] of [
    ['en', 'light'],
    ['ko', 'dark'],
  ] as const) {
    const texts = textsOf(locale)
    const { id: owner } = (await signUp(app, `ada-${locale}`)).json()
    const to = `ada.lovelace@${locale}.example.com`
    await giveEmail(storeOf(app), owner, to)
    const link = async (kind: 'verify' | 'reset' | 'undo') =>
      (await app.mail.issue(kind, { owner, source: 'test', to, locale })).link.replace('http://localhost:3000', origin)
    const window = { locale, colorScheme, viewport: { width: narrow, height: 700 } }
    const judging = await browser.newContext(window)
    const judge = await judging.newPage()
    await judge.goto(`${origin}/forgot`)
    await judge.evaluate(axeSource)
    const context = await browser.newContext({ ...window, javaScriptEnabled: false })
    const page = await context.newPage()
    page.setDefaultTimeout(5_000)
    const problems: string[] = []
    page.on('console', (message) => problems.push(message.text()))
    page.on('requestfailed', (request) => problems.push(request.url()))

    async function look(name: string, title: string): Promise<void> {
      t.equal(await page.locator('h1').textContent(), title, `${name}, ${locale}`)
      t.same(await findings(page, judge), [], `${name}, ${locale}`)
      t.equal(
        await page.evaluate('document.documentElement.scrollWidth'),
        narrow,
        `${name}, ${locale}: nothing is cut off`,
      )
      if (!shots) return
      await mkdir(shots, { recursive: true })
      for (const width of [narrow, 1280]) {
        await page.setViewportSize({ width, height: 700 })
        for (const scheme of ['light', 'dark'] as const) {
          await page.emulateMedia({ colorScheme: scheme })
          await page.screenshot({ path: join(shots, `${name}-${locale}-${width}-${scheme}.png`), fullPage: true })
        }
      }
      await page.emulateMedia({ colorScheme })
      await page.setViewportSize({ width: narrow, height: 700 })
    }
    const send = () => page.locator('button').click()

    await page.goto(`${origin}/forgot`)
    await look('forgot', texts.forgot.title)
    await page.fill('[name=name]', ' ')
    await send()
    await look('forgot-wrong', texts.forgot.title)
    await page.fill('[name=name]', 'ada')
    await send()
    await look('sent', texts.forgot.sentTitle)
    await page.fill('[name=code]', '00000000')
    await page.fill('[name=new_password]', newPassword)
    await send()
    await look('code-wrong', texts.reset.title)

    const reset = await link('reset')
    await page.goto(reset)
    await look('reset', texts.reset.title)
    await page.fill('[name=new_password]', 'password password')
    await send()
    await look('reset-wrong', texts.reset.title)
    await page.fill('[name=new_password]', newPassword)
    await send()
    await look('reset-done', texts.reset.doneTitle)
    await page.goto(reset)
    await look('reset-dead', texts.dead.title)
    for (const name of ['verify', 'undo'] as const) {
      const href = await link(name)
      await page.goto(href)
      await look(name, texts[name].title)
      await send()
      await look(`${name}-done`, texts[name].doneTitle)
      await page.goto(href)
      await look(`${name}-dead`, texts.dead.title)
    }
    const guest = await app.invitations.invite(callerFrom('192.0.2.1', app.log), { email: `guest-${to}` }, locale)
    await page.goto(guest.link.replace('http://localhost:3000', origin))
    await look('sign-up', texts.signUp.title)
    await page.fill('[name=username]', `ada-${locale}`)
    await page.fill('[name=password]', password)
    await send()
    await look('sign-up-wrong', texts.signUp.title)
    await page.fill('[name=username]', `bob-${locale}`)
    await page.fill('[name=password]', password)
    await send()
    await look('sign-up-done', texts.signUp.doneTitle)
    await page.goto(`${origin}/sign-up?invitation=x`)
    await look('sign-up-dead', texts.dead.title)
    await page.goto(`${origin}/reset?token=%zz`)
    await look('failed', texts.failed.title)
    t.same(
      problems.filter((text) => !/status of 4\d\d/.test(text)),
      [],
    )
    await Promise.all([context.close(), judging.close()])
  }
}
