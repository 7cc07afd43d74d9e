import { mkdir, readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import type { Test } from 'tap'
import type { Locale } from '../../domain/user.ts'
import { type PageTexts, textsOf } from '../../pages/texts/index.ts'

/*
 * Pages in a browser, without script: in both languages, light and dark, on the narrowest screen (WCAG 2.2, 1.4.10).
 * `LATCHKEY_SHOTS=DIR` keeps pictures of all that are looked at, narrow and wide, for people.
 */

const shots = process.env['LATCHKEY_SHOTS']
/** Of a page that stands alone, nothing is to be said about regions of an application. */
const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
const narrow = 320

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

/** A window in which pages are looked at. */
export interface Window {
  page: Page
  locale: Locale
  texts: PageTexts
  /** The page that is open has this title, passes axe-core, and fits. @param name of its pictures */
  look(name: string, title: string): Promise<void>
}

/**
 * Has pages looked at twice: in English and light, in Korean and dark.
 *
 * @param start any page of the service, which the judge has the style of
 */
export async function inBothLanguages(
  t: Test,
  browser: Browser,
  start: string,
  body: (window: Window) => Promise<void>,
): Promise<void> {
  const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
  for (const [locale, colorScheme] of [
    ['en', 'light'],
    ['ko', 'dark'],
  ] as const) {
    const window = { locale, colorScheme, viewport: { width: narrow, height: 700 } }
    const judging = await browser.newContext(window)
    const judge = await judging.newPage()
    await judge.goto(start)
    await judge.evaluate(axe)
    const context = await browser.newContext({ ...window, javaScriptEnabled: false })
    const page = await context.newPage()
    page.setDefaultTimeout(5_000)
    const problems: string[] = []
    page.on('console', (message) => problems.push(message.text()))
    page.on('requestfailed', (request) => problems.push(request.url()))

    async function look(name: string, title: string): Promise<void> {
      t.equal(await page.locator('h1').textContent(), title, `${name}, ${locale}`)
      t.same(await findings(page, judge), [], `${name}, ${locale}`)
      const width = await page.evaluate('document.documentElement.scrollWidth')
      t.equal(width, narrow, `${name}, ${locale}: nothing is cut off`)
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

    await body({ page, locale, texts: textsOf(locale), look })
    t.same(
      problems.filter((text) => !/status of 4\d\d/.test(text)),
      [],
    )
    await Promise.all([context.close(), judging.close()])
  }
}
