import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { mayHaveScope } from '../../domain/grant.ts'
import { elapsedMs } from '../../domain/time.ts'
import { whyNoTokens } from '../../domain/user.ts'
import { adminScopeRefused } from '../../errors.ts'
import { renderForm } from '../../pages/form.ts'
import { checks, facts } from '../../pages/list.ts'
import { breaking, type Frame, linkButton, linkLine, named, paragraph } from '../../pages/page.ts'
import type { DeviceRequest } from '../../plugins/authorization/device-codes.ts'
import type { Browser } from '../../plugins/browser/browser-sessions.ts'
import { noteRefusal } from '../../plugins/http/errors.ts'
import { fieldsOf, frameFor, queryOf, type Returned, returnedFor, sendPage, sendWords } from './answers.ts'
import { nameOf } from './asked.ts'
import { linesFor } from './consent.ts'

const path = '/device'
/** as people may type it, with what stands between the letters */
const longestCode = 40

/** Whoever is signed in, and what they are asked about. */
type Found = Browser & { device: DeviceRequest }

/**
 * Letting a device without a browser sign in, RFC 8628 §3.3: the code that it shows, then what it is and where. Nobody
 * learns whether there is such a code before they have signed in, so guesses are counted for an account.
 */
const plugin: FastifyPluginAsync = async (app) => {
  const { config, authorization, browserSessions, consents, deviceCodes, forms, now } = app

  function sendForm(reply: FastifyReply, userCode: string, returned?: Returned): FastifyReply {
    const frame = frameFor(reply.request)
    const { title, intro, field, hint, button } = frame.texts.device
    const typed = {
      name: 'user_code',
      label: field,
      hint,
      autocomplete: 'off',
      value: userCode,
      maxLength: longestCode,
    } as const
    // What a form that is sent by GET has in its action is not sent.
    const hidden = { ui_locales: frame.asked }
    const form = { method: 'get' as const, action: frame.linkTo(path), hidden, fields: [typed], button }
    const body = [paragraph(intro), renderForm(frame, form, returned?.errors)]
    return sendPage(reply, { title, hasErrors: !!returned, body }, returned?.status)
  }

  /** What the user is asked about; undefined where the answer is sent already. */
  async function find(request: FastifyRequest, reply: FastifyReply, userCode: string): Promise<Found | undefined> {
    const browser = await browserSessions.of(request)
    const frame = frameFor(request)
    if (!browser || whyNoTokens(browser.user, { ...shownIn(browser), mfa: config.AUTH_MFA }) !== undefined) {
      authorization.signInFor(request, reply, { to: to(frame, userCode) })
      return undefined
    }
    try {
      const device = await deviceCodes.typedBy(request.caller, browser.user, userCode)
      if (device && (device.allowedBy ?? browser.user.id) === browser.user.id) return { ...browser, device }
      sendForm(reply, userCode, { status: 400, errors: { user_code: frame.texts.device.wrong } })
    } catch (error) {
      sendForm(reply, userCode, returnedFor(reply, error))
    }
    return undefined
  }

  function sendQuestion(reply: FastifyReply, { user, device }: Found): FastifyReply {
    const { request } = reply
    const frame = frameFor(request)
    const { texts, linkTo } = frame
    const { askTitle, app: label, code, address, asked, minutesAgo, warning } = texts.device
    const minutes = Math.floor(elapsedMs(device.askedAt, now()) / 60_000)
    const choice = (value: 'allow' | 'deny') =>
      ({ label: texts.consent[value], name: 'decision', value, kind: 'plain' }) as const
    const again = authorization.seal(request, reply, { kind: 'page', to: to(frame, device.userCode), askedAt: now() })
    const body = [
      [paragraph(label), named(nameOf(device.client))],
      [paragraph(code), named(device.userCode)],
      [paragraph(texts.consent.gets), checks(linesFor(frame, device.granted.scope))],
      facts([
        [asked, minutesAgo(minutes)],
        [address, breaking(device.address)],
        [texts.username, breaking(user.username)],
      ]),
      paragraph(warning),
      renderForm(frame, {
        action: linkTo(path),
        hidden: { ...forms.hidden(request, reply, path), user_code: device.userCode },
        button: [choice('deny'), choice('allow')],
      }),
      linkLine(linkTo('/sign-in', { request: again, as: 'another' }), texts.signIn.another),
    ]
    return sendPage(reply, { title: askTitle, body })
  }

  function sendAllowed(reply: FastifyReply): FastifyReply {
    const { texts, linkTo } = frameFor(reply.request)
    const { allowedTitle, allowed, toAccount } = texts.device
    const body = [paragraph(allowed), linkButton(linkTo('/account/sessions'), toAccount, 'plain')]
    return sendPage(reply, { title: allowedTitle, body })
  }

  app.get(path, { schema: { hide: true } }, async (request, reply) => {
    const userCode = queryOf(request, 'user_code').slice(0, longestCode)
    if (userCode === '') return sendForm(reply, '')
    const found = await find(request, reply, userCode)
    if (!found) return reply
    return found.device.allowedBy ? sendAllowed(reply) : sendQuestion(reply, found)
  })

  app.post(path, { schema: { hide: true } }, async (request, reply) => {
    forms.check(request, path)
    const { user_code: userCode = '', decision } = fieldsOf(request)
    const found = await find(request, reply, userCode)
    if (!found) return reply
    const { user, device } = found
    const { client, granted } = device
    const { texts } = frameFor(request)
    const tooLate = () => sendForm(reply, userCode, { status: 400, errors: { user_code: texts.device.wrong } })
    if (device.allowedBy) return sendAllowed(reply)
    if (decision === 'deny') {
      if (!(await deviceCodes.refuse(request.caller, device, user))) return tooLate()
      return sendPage(reply, { title: texts.device.refusedTitle, body: paragraph(texts.device.refused) })
    }
    if (decision !== 'allow') return sendQuestion(reply, found)
    if (!mayHaveScope(user, granted.scope)) {
      noteRefusal(reply, adminScopeRefused(user.roles))
      return sendWords(reply, { title: texts.failed.title, text: texts.device.lacksRole }, 403)
    }
    // Of any app, for each is asked about here: so it can be taken back, also before the device has come for it.
    await consents.give(request.caller, user, client, granted.scope)
    const { authAt, amr, factor } = found.session
    const authentication = { authAt, amr, ...(factor !== undefined && { factor }) }
    const { generation } = found.session
    const authorized = { userId: user.id, generation, granted, authentication, isConsented: true as const }
    return (await deviceCodes.allow(request.caller, device, authorized)) ? sendAllowed(reply) : tooLate()
  })
}

/** The page with a code, for whoever signs in on the way. */
const to = ({ asked }: Frame, userCode: string) =>
  `${path}?${new URLSearchParams({ user_code: userCode, ...(asked !== undefined && { ui_locales: asked }) })}`

const shownIn = ({ session: { generation, factor } }: Browser) => ({ generation, factor })

export default plugin
