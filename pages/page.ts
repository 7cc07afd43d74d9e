import type { Locale } from '../domain/user.ts'
import { assetUrl, type ScriptName, scripts, styleSheet } from './assets.ts'
import { type Content, type Html, html } from './html.ts'
import { type PageTexts, textsOf } from './texts/index.ts'

/** What an operator has given the pages in AUTH_THEME_DIR: the names under which it is served. */
export interface Theme {
  css?: string
  logo?: string
}

/** What every page of one answer has in common. */
export interface Frame {
  locale: Locale
  texts: PageTexts
  /** the locale that the page was asked for by name; undefined where the browser's was taken */
  asked: Locale | undefined
  /**
   * a link or an action of ours: below the path of the issuer, with a locale that the page was asked for by name, and
   * with those of the parameters that are defined
   */
  linkTo(path: string, parameters?: Record<string, string | undefined>): string
  /** that people know the service by */
  serviceName: string
  publicPath: string
  theme: Theme
}

/** @param asked the locale that stands in the URL, which links keep; undefined where the browser's was taken */
export const frameOf = (
  locale: Locale,
  asked: Locale | undefined,
  { publicPath, serviceName, theme }: Pick<Frame, 'publicPath' | 'serviceName' | 'theme'>,
): Frame => ({
  locale,
  texts: textsOf(locale),
  asked,
  linkTo(path, parameters = {}) {
    const query = new URLSearchParams()
    for (const [name, value] of Object.entries({ ...parameters, ui_locales: asked }))
      if (value !== undefined) query.set(name, value)
    return `${publicPath}${path}${query.size > 0 ? `?${query}` : ''}`
  },
  serviceName,
  publicPath,
  theme,
})

export interface Page {
  title: string
  /** whether a form comes back with what is wrong: who hears the page is told so by its title first */
  hasErrors?: boolean
  /** for pages with lists: wider, on screens that are */
  isWide?: boolean
  /** what leads to the neighbours of the page, above its title */
  nav?: Content
  body: Content
  /** what the page cannot do without: it runs once all else is there */
  script?: ScriptName | undefined
  /** beside our own, where its forms may lead, by redirects too: see `formTargetsOf` of `domain/form-targets.ts` */
  formTargets?: string[]
}

/** A whole page. */
export const renderPage = (
  { locale, texts, serviceName, publicPath, theme }: Frame,
  { title, hasErrors = false, isWide = false, nav, body, script }: Page,
): string =>
  html`<!doctype html>
<html lang="${locale}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<title>${hasErrors && texts.errorPrefix}${title} – ${serviceName}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="${assetUrl(publicPath, styleSheet.name)}">
${theme.css && html`<link rel="stylesheet" href="${assetUrl(publicPath, theme.css)}">\n`}${
  script && html`<script src="${assetUrl(publicPath, scripts[script].name)}" defer></script>\n`
}</head>
<body${isWide && html` class="wide"`}>
<header>${
    theme.logo ? html`<img src="${assetUrl(publicPath, theme.logo)}" alt="">` : key
  }<span>${serviceName}</span></header>
<main>
${nav}<h1>${title}</h1>
${body}
</main>
</body>
</html>
`.toString()

const key = html`<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7.5 6a6 6 0 1 0 5.66 8H16v3h3v-3h2.5v-4h-8.34A6 6 0 0 0 7.5 6Zm0 4a2 2 0 1 1 0 4 2 2 0 0 1 0-4Z"/></svg>`

export const paragraph = (text: string): Html => html`<p>${text}</p>`
export const quiet = (text: string): Html => html`<p class="quiet">${text}</p>`
/** What has worked, above what comes next. */
export const notice = (text: string): Html => html`<p class="notice" role="status">${text}</p>`
/** A name or an address, on a line of its own: in Korean no particle may follow one. A long one breaks behind its `@`. */
export const named = (text: string): Html => html`<p class="what">${breaking(text)}</p>`
/** A long text that may break behind its `@` and its dots. */
export const breaking = (text: string): Content =>
  text.split(/(?<=[@])/).map((part, index) => [index > 0 && html`<wbr>`, part])
export const linkButton = (href: string, text: string, kind: 'strong' | 'plain' = 'strong'): Html =>
  html`<a class="button${kind === 'plain' && ' plain'}" href="${href}">${text}</a>`
/** A link on a line of its own, with what it is for before it. */
export const linkLine = (href: string, text: string, before?: string): Html =>
  html`<p class="quiet">${before !== undefined && `${before} `}<a href="${href}">${text}</a></p>`
/** A part of a page, with a heading. */
export const section = (heading: string, ...content: Content[]): Html => html`<section>
<h2>${heading}</h2>
${content}
</section>
`
