import type { FastifyPluginAsync } from 'fastify'
import { html } from '../../../pages/html.ts'
import { checks, list } from '../../../pages/list.ts'
import { linkLine, paragraph } from '../../../pages/page.ts'
import { ago } from '../../../pages/times.ts'
import { fieldsOf, frameFor, queryOf, sendPage } from '../answers.ts'
import { linesFor } from '../consent.ts'
import { back, doneNotice, formAround, goTo, hidden, rowButton } from './form.ts'

const path = '/account/apps'
const shownAtOnce = 25

/** What a user has allowed apps, which they may take back. */
const plugin: FastifyPluginAsync = async (app) => {
  const { consents, clients, now } = app

  app.get(path, hidden, async (request, reply) => {
    const frame = frameFor(request)
    const { texts, locale, linkTo } = frame
    const { title, intro, none, since, button } = texts.account.apps
    const from = Number(/^\d{1,4}$/.exec(queryOf(request, 'from'))?.[0] ?? 0)
    const all = await consents.of(request.browser.user.id)
    const shown = all.slice(from, from + shownAtOnce)
    const items = await Promise.all(
      shown.map(async ({ clientId, scope, grantedAt }) => {
        const name = (await clients.find(clientId))?.name ?? clientId
        return {
          what: [
            html`<strong>${name}</strong>`,
            html`<p class="quiet">${since} ${ago(locale, grantedAt, now())}</p>`,
            checks(linesFor(frame, scope)),
          ],
          act: rowButton('client', clientId, button, name),
        }
      }),
    )
    const next = all.length > from + shownAtOnce ? String(from + shownAtOnce) : undefined
    const body = [
      doneNotice(request, frame),
      paragraph(all.length > 0 ? intro : none),
      items.length > 0 && formAround(reply, path, list(items)),
      next !== undefined && linkLine(linkTo(path, { from: next }), texts.account.more),
      back(frame),
    ]
    return sendPage(reply, { title, isWide: true, body })
  })

  app.post(path, hidden, async (request, reply) => {
    const { client } = fieldsOf(request)
    if (client !== undefined) await consents.withdraw(request.caller, request.browser.user.id, client)
    return goTo(reply, path, 'withdrawn')
  })
}

export default plugin
