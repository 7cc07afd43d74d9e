import { mkdir, readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import type { Browser, Page } from 'playwright-core'
import type { Test } from 'tap'
import type { Locale } from '../../domain/user.ts'
import { type PageTexts, textsOf } from '../../pages/texts/index.ts'
import { type Opened, openBrowser } from './browser.ts'

/*
 * Pages in Chromium, as they are without script: in both languages, light and dark, on the narrowest screen (WCAG 2.2,
 * 1.4.10), and under the policy of a page of ours. A browser of the tests gets them, which costs a tenth of what it
 * costs Chromium to walk there. `LATCHKEY_SHOTS=DIR` keeps pictures of all that are looked at, narrow and wide, for
 * people.
 */

const shots = process.env['LATCHKEY_SHOTS']
/** Of a page that stands alone, nothing is to be said about regions of an application. */
const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
const narrow = 320

interface Finding {
  id: string
  nodes: { html: string; failureSummary: string }[]
}

/** Runs in a window, where types of the browser are not known: what stands for those without script is shown. */
const showCopy = `async (body) => {
  const root = document.documentElement
  const copy = new DOMParser().parseFromString(body.replace(/<(\\/?)noscript>/g, '<$1div>'), 'text/html')
  root.lang = copy.documentElement.lang
  root.innerHTML = copy.documentElement.innerHTML
  await new Promise((resolve) => document.querySelector('link[rel=stylesheet]').addEventListener('load', resolve))
  return { title: document.querySelector('h1').textContent, width: root.scrollWidth }
}`
const judge = `axe.run(${JSON.stringify({ runOnly: tags, resultTypes: ['violations'], preload: false })})`

/** What axe finds in the page that is shown. */
async function findings(page: Page): Promise<string[]> {
  const { violations } = (await page.evaluate(judge)) as { violations: Finding[] }
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html} ${node.failureSummary}`))
}

/** Somebody who looks at pages. */
export interface Looking {
  /** which gets them, in the language */
  browser: ReturnType<typeof openBrowser>
  locale: Locale
  texts: PageTexts
  /** A page has this title, passes axe-core, and fits. @param name of its pictures @returns the page */
  look(name: string, opened: Opened | Promise<Opened>, title: string): Promise<Opened>
}

/**
 * Has pages looked at twice: in English and light, in Korean and dark.
 *
 * @param start any page of the service, which listens
 */
export async function inBothLanguages(
  t: Test,
  { app, chromium, start }: { app: FastifyInstance; chromium: Browser; start: string },
  body: (looking: Looking) => Promise<void>,
): Promise<void> {
  const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
  for (const [locale, colorScheme] of [
    ['en', 'light'],
    ['ko', 'dark'],
  ] as const) {
    const context = await chromium.newContext({ locale, colorScheme, viewport: { width: narrow, height: 700 } })
    const page = await context.newPage()
    const problems: string[] = []
    page.on('console', (message) => problems.push(message.text()))
    page.on('requestfailed', (request) => problems.push(request.url()))
    await page.goto(start)
    await page.evaluate(axe)

    async function look(name: string, opened: Opened | Promise<Opened>, title: string): Promise<Opened> {
      const shown = await opened
      const seen = await page.evaluate(`(${showCopy})(${JSON.stringify(shown.body)})`)
      t.same(seen, { title, width: narrow }, `${name}, ${locale}: nothing is cut off`)
      t.same(await findings(page), [], `${name}, ${locale}`)
      if (shots) await keepPictures(shots, `${name}-${locale}`)
      return shown
    }

    async function keepPictures(dir: string, name: string): Promise<void> {
      await mkdir(dir, { recursive: true })
      for (const width of [narrow, 1280]) {
        await page.setViewportSize({ width, height: 700 })
        for (const scheme of ['light', 'dark'] as const) {
          await page.emulateMedia({ colorScheme: scheme })
          await page.screenshot({ path: join(dir, `${name}-${width}-${scheme}.png`), fullPage: true })
        }
      }
      await page.emulateMedia({ colorScheme })
      await page.setViewportSize({ width: narrow, height: 700 })
    }

    await body({ browser: openBrowser(app, { 'accept-language': locale }), locale, texts: textsOf(locale), look })
    t.same(problems, [])
    await context.close()
  }
}
