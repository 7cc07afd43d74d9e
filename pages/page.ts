import type { Locale } from '../domain/user.ts'
import { type Content, type Html, html } from './html.ts'
import { styleName } from './style.ts'
import { type PageTexts, textsOf } from './texts/index.ts'

/** What every page of one answer has in common. */
export interface Frame {
  locale: Locale
  texts: PageTexts
  /** the path of the issuer, and a locale that the page was asked for by name: what links of ours begin and end with */
  linkTo(path: string): string
  /** that people know the service by */
  serviceName: string
  /** below the path of the issuer */
  styleUrl: string
}

/** @param asked the locale that stands in the URL, which links keep; undefined where the browser's was taken */
export const frameOf = (locale: Locale, asked: Locale | undefined, publicPath: string, serviceName: string): Frame => ({
  locale,
  texts: textsOf(locale),
  linkTo: (path) => `${publicPath}${path}${asked === undefined ? '' : `?ui_locales=${asked}`}`,
  serviceName,
  styleUrl: `${publicPath}/pages/${styleName}`,
})

export interface Page {
  title: string
  /** whether a form comes back with what is wrong: who hears the page is told so by its title first */
  hasErrors?: boolean
  /** where a browser may be led to when a form of the page is sent, beside our own pages */
  formTargets?: string[]
  body: Content
}

/** A whole page. */
export const renderPage = (
  { locale, texts, serviceName, styleUrl }: Frame,
  { title, hasErrors = false, body }: Page,
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
<link rel="stylesheet" href="${styleUrl}">
</head>
<body>
<header>${key}<span>${serviceName}</span></header>
<main>
<h1>${title}</h1>
${body}
</main>
</body>
</html>
`.toString()

const key = html`<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7.5 6a6 6 0 1 0 5.66 8H16v3h3v-3h2.5v-4h-8.34A6 6 0 0 0 7.5 6Zm0 4a2 2 0 1 1 0 4 2 2 0 0 1 0-4Z"/></svg>`

export const paragraph = (text: string): Html => html`<p>${text}</p>`
export const quiet = (text: string): Html => html`<p class="quiet">${text}</p>`
/** A name or an address, on a line of its own: in Korean no particle may follow one. A long one breaks behind its `@`. */
export const named = (text: string): Html =>
  html`<p class="what">${text.split(/(?<=@)/).map((part, index) => [index > 0 && html`<wbr>`, part])}</p>`
export const linkButton = (href: string, text: string): Html => html`<a class="button" href="${href}">${text}</a>`
