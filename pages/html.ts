/** Markup that is safe as it is: made by {@link html} only, so that no text of a stranger gets around the escaping. */
export class Html {
  readonly #markup: string
  private constructor(markup: string) {
    this.#markup = markup
  }
  toString(): string {
    return this.#markup
  }
  /** The pieces of a template are ours; what stands between them is escaped, unless it is markup itself. */
  static join(pieces: readonly string[], values: Content[]): Html {
    return new Html(pieces.map((piece, index) => piece + markupOf(values[index])).join(''))
  }
}

/** What a template takes. Nothing, `undefined` and `false` are left out. */
export type Content = Html | string | number | undefined | false | readonly Content[]

/** A tag for templates: ``html`<p>${text}</p>` ``. Attributes have to be in double quotes. */
export const html = (pieces: TemplateStringsArray, ...values: Content[]): Html => Html.join(pieces, values)

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

function markupOf(content: Content): string {
  if (content === undefined || content === false) return ''
  if (content instanceof Html) return content.toString()
  if (typeof content === 'object') return content.map(markupOf).join('')
  return String(content).replace(/[&<>"']/g, (character) => entities[character] as string)
}
