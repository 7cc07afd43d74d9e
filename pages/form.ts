import { type Content, type Html, html } from './html.ts'
import type { Frame } from './page.ts'

/** What is wrong with a form: of a field by its name, or of the whole (`''`). */
export type FormErrors = Record<string, string>

export interface Field {
  name: string
  label: string
  hint?: string
  /** by the HTML standard; password managers and people with a cognitive disability rely on it (WCAG 2.2, 1.3.5) */
  autocomplete: 'username' | 'new-password' | 'one-time-code' | 'email'
  type?: 'text' | 'password' | 'email'
  /** what was sent, when the form comes back; a password never does */
  value?: string | undefined
  minLength?: number
  /** eight digits */
  isCode?: boolean
}

export interface Form {
  /** where it is posted to */
  action: string
  /** sent along */
  hidden?: Record<string, string>
  /** whose new password it is, for password managers */
  account?: string | undefined
  fields?: Field[]
  button: string
}

/** A form that works without script, with what is wrong at its head and beside each field. */
export const renderForm = (
  { texts }: Frame,
  { action, hidden = {}, account, fields = [], button }: Form,
  errors: FormErrors = {},
): Html => html`${renderSummary(texts.errorTitle, errors)}<form method="post" action="${action}">
${Object.entries(hidden).map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}">\n`)}${
  account !== undefined &&
  html`<input type="text" name="username" aria-label="${texts.username}" value="${account}" autocomplete="username" readonly hidden>\n`
}${fields.map((field) => renderField(field, errors[field.name]))}<button type="submit">${button}</button>
</form>`

/** Takes the focus, so that who hears the page hears it first; each line leads to its field. */
function renderSummary(title: string, errors: FormErrors): Content {
  const all = Object.entries(errors)
  return (
    all.length > 0 &&
    html`<div class="summary" role="alert" tabindex="-1" autofocus>
<h2>${title}</h2>
${all.map(([name, text]) => html`<p>${name === '' ? text : html`<a href="#${name}">${text}</a>`}</p>\n`)}</div>
`
  )
}

function renderField(
  { name, label, hint, autocomplete, type = 'text', value, minLength, isCode }: Field,
  error: string | undefined,
): Html {
  const describedBy = [hint !== undefined && `${name}-hint`, error !== undefined && `${name}-wrong`].filter(Boolean)
  return html`<div class="field">
<label for="${name}">${label}</label>
${hint !== undefined && html`<p class="hint" id="${name}-hint">${hint}</p>\n`}${error !== undefined && html`<p class="wrong" id="${name}-wrong">${error}</p>\n`}<input id="${name}" name="${name}" type="${type}" autocomplete="${autocomplete}" required${
    value !== undefined && html` value="${value}"`
  }${minLength !== undefined && html` minlength="${minLength}"`}${
    isCode && html` class="code" inputmode="numeric"`
  }${type !== 'password' && html` autocapitalize="none" spellcheck="false"`}${
    describedBy.length > 0 && html` aria-describedby="${describedBy.join(' ')}"`
  }${error !== undefined && html` aria-invalid="true"`}>
</div>
`
}
