import { type Content, type Html, html } from './html.ts'
import type { Frame } from './page.ts'

/** What is wrong with a form: of a field by its name, or of the whole (`''`). */
export type FormErrors = Record<string, string>

export interface Field {
  name: string
  label: string
  hint?: string
  /** by the HTML standard; password managers and people with a cognitive disability rely on it (WCAG 2.2, 1.3.5) */
  autocomplete:
    | 'username'
    | 'username webauthn'
    | 'current-password'
    | 'new-password'
    | 'one-time-code'
    | 'email'
    | 'off'
  type?: 'text' | 'password' | 'email'
  /** what was sent, when the form comes back; a password never does */
  value?: string | undefined
  minLength?: number
  maxLength?: number
  /** digits, so many of them */
  isCode?: boolean
  isOptional?: boolean
}

/** One of several buttons of a form: which one was pressed is sent. */
export interface Button {
  label: string
  name?: string
  value?: string
  /** all that stand side by side in a choice are of equal weight: `plain` */
  kind?: 'strong' | 'plain' | 'danger'
}

export interface Form {
  /** where it is sent to */
  action: string
  /** by its URL, for one that changes nothing */
  method?: 'get'
  /** sent along */
  hidden?: Record<string, string | undefined>
  /** whose password it is, for password managers */
  account?: string | undefined
  fields?: Field[]
  /** the only one, or the label of it; several stand side by side */
  button: string | Button | Button[]
  /** what only a script does with it: see `pages/scripts.ts`. The form stays hidden without */
  passkey?: { does: 'get' | 'create'; ask?: string; options?: unknown; failed: string }
}

/** A form that works without script, with what is wrong at its head and beside each field. */
export const renderForm = (frame: Frame, form: Form, errors: FormErrors = {}): Html =>
  html`${renderSummary(frame, errors)}${renderBareForm(frame, form, errors)}`

/** One of several forms of a page, which has the summary of what is wrong once. */
export const renderBareForm = (
  { texts }: Frame,
  { action, method, hidden = {}, account, fields = [], button, passkey }: Form,
  errors: FormErrors = {},
): Html => html`<form method="${method ?? 'post'}" action="${action}"${
  passkey &&
  html` data-passkey="${passkey.does}"${passkey.ask !== undefined && html` data-ask="${passkey.ask}"`}${
    passkey.options !== undefined && html` data-options="${JSON.stringify(passkey.options)}"`
  } hidden`
}>
${Object.entries(hidden).map(
  ([name, value]) => value !== undefined && html`<input type="hidden" name="${name}" value="${value}">\n`,
)}${
  account !== undefined &&
  html`<input type="text" name="username" aria-label="${texts.username}" value="${account}" autocomplete="username" readonly hidden>\n`
}${fields.map((field) => renderField(field, errors[field.name]))}${renderButtons(button)}
${passkey && html`<p class="wrong" role="alert" data-failed hidden>${passkey.failed}</p>\n`}</form>`

function renderButtons(buttons: Form['button']): Html {
  if (typeof buttons === 'string') return renderButton({ label: buttons })
  return Array.isArray(buttons) ? html`<div class="row">${buttons.map(renderButton)}</div>` : renderButton(buttons)
}

const kinds = { strong: undefined, plain: 'plain', danger: 'plain danger' }

const renderButton = ({ label, name, value, kind = 'strong' }: Button): Html =>
  html`<button type="submit"${kinds[kind] && html` class="${kinds[kind]}"`}${
    name !== undefined && html` name="${name}" value="${value}"`
  }>${label}</button>`

/** Takes the focus, so that who hears the page hears it first; each line leads to its field. */
export function renderSummary({ texts }: Frame, errors: FormErrors): Content {
  const all = Object.entries(errors)
  return (
    all.length > 0 &&
    html`<div class="summary" role="alert" tabindex="-1" autofocus>
<h2>${texts.errorTitle}</h2>
${all.map(([name, text]) => html`<p>${name === '' ? text : html`<a href="#${name}">${text}</a>`}</p>\n`)}</div>
`
  )
}

function renderField(
  { name, label, hint, autocomplete, type = 'text', value, minLength, maxLength, isCode, isOptional }: Field,
  error: string | undefined,
): Html {
  const describedBy = [hint !== undefined && `${name}-hint`, error !== undefined && `${name}-wrong`].filter(Boolean)
  return html`<div class="field">
<label for="${name}">${label}</label>
${hint !== undefined && html`<p class="hint" id="${name}-hint">${hint}</p>\n`}${error !== undefined && html`<p class="wrong" id="${name}-wrong">${error}</p>\n`}<input id="${name}" name="${name}" type="${type}" autocomplete="${autocomplete}"${
    !isOptional && html` required`
  }${value !== undefined && html` value="${value}"`}${minLength !== undefined && html` minlength="${minLength}"`}${
    maxLength !== undefined && html` maxlength="${maxLength}"`
  }${isCode && html` class="code" inputmode="numeric"`}${
    type !== 'password' && html` autocapitalize="none" spellcheck="false"`
  }${describedBy.length > 0 && html` aria-describedby="${describedBy.join(' ')}"`}${
    error !== undefined && html` aria-invalid="true"`
  }>
</div>
`
}
