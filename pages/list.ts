import { type Content, type Html, html } from './html.ts'

/** Things of one kind, each with what may be done about it: a form with one button, or a link; and what belongs to it. */
export const list = (items: { what: Content; act?: Content; below?: Content }[]): Html => html`<ul class="list">
${items.map(({ what, act, below }) => html`<li><div>${what}</div>${act}${below}</li>\n`)}</ul>
`

/** What is known of one thing: names, and what stands behind each. */
export const facts = (rows: [name: string, value: Content][]): Html => html`<dl>
${rows.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>\n`)}</dl>
`

/** What somebody gets, a line each. */
export const checks = (lines: string[]): Html => html`<ul class="checks">
${lines.map((line) => html`<li>${line}</li>\n`)}</ul>
`

/** A picture that an app's camera reads; what it says has to stand beside it as text. @param svg of our own making */
export const qr = (svg: string, alt: string): Html =>
  html`<img class="qr" alt="${alt}" src="data:image/svg+xml;base64,${Buffer.from(svg).toString('base64')}">`
