import { Readable } from 'node:stream'
import type { FastifyPluginAsync } from 'fastify'
import { asOwn } from '../../../domain/audit.ts'
import type { User } from '../../../domain/user.ts'
import { renderForm } from '../../../pages/form.ts'
import { paragraph, quiet } from '../../../pages/page.ts'
import { toAuditEvent } from '../../../schemas/audit.ts'
import { toFactorList } from '../../../schemas/factors.ts'
import { toTimestamp } from '../../../schemas/parts.ts'
import { toSession } from '../../../schemas/sessions.ts'
import { toUser } from '../../../schemas/users.ts'
import { frameFor, sendPage } from '../answers.ts'
import { back, formTo, fresh, hidden } from './form.ts'

const path = '/account/export'
/** Rows that are read at a time. */
const atOnce = 100

/** All that is kept about a user, as a file. */
const plugin: FastifyPluginAsync = async (app) => {
  const { store, factors, sessions, browserSessions, consents } = app

  /** A JSON document, a part at a time: months of activity are not for the memory. */
  async function* documentOf(user: User): AsyncGenerator<string> {
    const [known, browsers, apps] = await Promise.all([
      factors.of(user.id),
      browserSessions.list(user.id),
      consents.of(user.id),
    ])
    const members = {
      profile: toUser(user),
      ...toFactorList(known.factors),
      browsers: browsers.map(({ id, createdAt, seenAt, address, userAgent }) => ({
        ...{
          id,
          created_at: toTimestamp(createdAt),
          last_used_at: toTimestamp(seenAt),
          address,
          user_agent: userAgent,
        },
      })),
      apps: apps.map(({ clientId, scope, grantedAt }) => ({
        ...{ client_id: clientId, scope: scope.join(' '), granted_at: toTimestamp(grantedAt) },
      })),
    }
    yield JSON.stringify(members).slice(0, -1)
    yield* listed('sessions', async (page) => {
      const { sessions: rows, next } = await sessions.list(user.id, page)
      return { rows: rows.map(toSession), next }
    })
    yield* listed('activity', async (page) => {
      const { rows, next } = await store.listAudit({ user: user.id }, page)
      return { rows: rows.map((row) => toAuditEvent(asOwn(row))), next }
    })
    yield '}\n'
  }

  app.get(path, hidden, async (request, reply) => {
    await fresh(request)
    const frame = frameFor(request)
    const { title, intro, note, button } = frame.texts.account.export
    const form = formTo(reply, path, { button })
    return sendPage(reply, { title, body: [paragraph(intro), quiet(note), renderForm(frame, form), back(frame)] })
  })

  app.post(path, hidden, async (request, reply) => {
    await fresh(request)
    return reply
      .header('content-disposition', 'attachment; filename="account.json"')
      .type('application/json; charset=utf-8')
      .send(Readable.from(documentOf(request.browser.user)))
  })
}

type Page = { limit: number; after?: string }

/** The rows of all pages, as a member of an object that has others before it. */
async function* listed(
  name: string,
  read: (page: Page) => Promise<{ rows: object[]; next?: string | undefined }>,
): AsyncGenerator<string> {
  yield `,"${name}":[`
  let separator = ''
  let after: string | undefined
  do {
    const { rows, next } = await read({ limit: atOnce, ...(after !== undefined && { after }) })
    if (rows.length > 0) {
      yield separator + JSON.stringify(rows).slice(1, -1)
      separator = ','
    }
    after = next
  } while (after !== undefined)
  yield ']'
}

export default plugin
