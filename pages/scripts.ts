/*
 * The scripts of the pages: without any of them everything works but passkeys. No page has one of its own in it, for the
 * policy of all pages lets none run (`script-src 'self'`).
 */

/**
 * For forms with `data-passkey`: `get` signs with a passkey, `create` makes one. The options, in the JSON form of
 * WebAuthn Level 3, stand in `data-options`; or a POST to `data-ask`, with the fields of the form, answers with
 * `{auth_session, webauthn}`. What the authenticator returns is sent in the field `webauthn`. A form of the second kind
 * also waits for a passkey that is chosen where the browser fills in the name (conditional mediation).
 *
 * Browsers of before 2025 lack `parseCreationOptionsFromJSON` and `toJSON`: both are done by hand.
 */
export const passkeyScript = `'use strict'
const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0))
const text = (buffer) => {
  let binary = ''
  for (const byte of new Uint8Array(buffer)) binary += String.fromCharCode(byte)
  return btoa(binary).replace(/\\+/g, '-').replace(/\\//g, '_').replace(/=+$/, '')
}
const ids = (list = []) => list.map((one) => ({ ...one, id: bytes(one.id) }))
const optionsOf = ({ challenge, user, allowCredentials, excludeCredentials, ...rest }) => ({
  ...rest,
  challenge: bytes(challenge),
  ...(user && { user: { ...user, id: bytes(user.id) } }),
  ...(allowCredentials && { allowCredentials: ids(allowCredentials) }),
  ...(excludeCredentials && { excludeCredentials: ids(excludeCredentials) }),
})
function answerOf(made) {
  const { response } = made
  const answer = {}
  for (const name of ['clientDataJSON', 'authenticatorData', 'signature', 'userHandle', 'attestationObject'])
    if (response[name]) answer[name] = text(response[name])
  if (response.getTransports) answer.transports = response.getTransports()
  return JSON.stringify({
    id: made.id,
    rawId: text(made.rawId),
    type: made.type,
    response: answer,
    clientExtensionResults: made.getClientExtensionResults(),
    ...(made.authenticatorAttachment && { authenticatorAttachment: made.authenticatorAttachment }),
  })
}
let waiting
let refreshed
async function run(form, more) {
  waiting?.abort()
  const mine = (waiting = new AbortController())
  const { passkey, options, ask } = form.dataset
  let asked = options && JSON.parse(options)
  if (ask) {
    const answer = await fetch(ask, { method: 'POST', body: new URLSearchParams(new FormData(form)) })
    if (!answer.ok) throw new Error(answer.status)
    const { auth_session, webauthn } = await answer.json()
    form.elements.auth_session.value = auth_session
    asked = webauthn
  }
  if (mine.signal.aborted) return
  const of = { publicKey: optionsOf(asked), signal: mine.signal, ...more }
  form.elements.webauthn.value = answerOf(await navigator.credentials[passkey](of))
  form.submit()
}
function arm(form) {
  form.hidden = false
  const failed = form.querySelector('[data-failed]')
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    clearTimeout(refreshed)
    if (failed) failed.hidden = true
    run(form).catch((error) => {
      if (error.name === 'AbortError') return
      if (failed) failed.hidden = false
      if (form.dataset.ask) wait(form)
    })
  })
}
async function wait(form) {
  if (!(await PublicKeyCredential.isConditionalMediationAvailable?.())) return
  // What was asked for is good for ten minutes, and a page may stand open for longer.
  refreshed = setTimeout(() => wait(form), 540000)
  run(form, { mediation: 'conditional' }).catch(() => {})
}
if (window.PublicKeyCredential)
  for (const form of document.querySelectorAll('form[data-passkey]')) {
    arm(form)
    if (form.dataset.ask) wait(form)
  }
`

/** Sends the one form of the page: `response_mode=form_post`. Without script its button does. */
export const submitScript = 'document.forms[0].submit()\n'
