import type { FastifyPluginAsync } from 'fastify'
import { type AuditRow, asOwn } from '../../../domain/audit.ts'
import { isUuid } from '../../../domain/ids.ts'
import { deviceOf } from '../../../domain/places.ts'
import { type Content, html } from '../../../pages/html.ts'
import { list } from '../../../pages/list.ts'
import { type Frame, linkLine, quiet } from '../../../pages/page.ts'
import { moment } from '../../../pages/times.ts'
import { frameFor, queryOf, sendPage } from '../answers.ts'
import { back, hidden } from './form.ts'

const path = '/account/activity'
const shownAtOnce = 25

/** What happened to the account, newest first. */
const plugin: FastifyPluginAsync = async (app) => {
  const { store, clients } = app

  async function about({ texts, locale }: Frame, row: AuditRow): Promise<Content[]> {
    const { administrator } = texts.account.activity
    const client = row.client === undefined ? undefined : ((await clients.find(row.client))?.name ?? row.client)
    const says = [client, row.by === 'administrator' ? administrator : undefined, deviceOf(row), row.address]
    return [moment(locale, row.at), says.filter((text) => text !== undefined).map((text) => ` · ${text}`)]
  }

  app.get(path, hidden, async (request, reply) => {
    const frame = frameFor(request)
    const { texts, linkTo } = frame
    const { title, note, none } = texts.account.activity
    const events: Record<string, string> = texts.account.activity.events
    const after = queryOf(request, 'after')
    const { rows, next } = await store.listAudit(
      { user: request.browser.user.id },
      { limit: shownAtOnce, ...(isUuid(after) && { after }) },
    )
    const items = await Promise.all(
      rows.map(asOwn).map(async (row) => ({
        what: [
          html`<strong>${events[row.event] ?? row.event}</strong>`,
          html`<p class="quiet">${await about(frame, row)}</p>`,
        ],
      })),
    )
    const body = [
      quiet(note),
      items.length > 0 ? list(items) : quiet(none),
      next !== undefined && linkLine(linkTo(path, { after: next }), texts.account.more),
      back(frame),
    ]
    return sendPage(reply, { title, isWide: true, body })
  })
}

export default plugin
