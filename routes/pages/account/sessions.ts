import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import type { BrowserSession } from '../../../domain/browser-session.ts'
import { deviceOf, type Origin } from '../../../domain/places.ts'
import { offlineScope } from '../../../domain/scope.ts'
import type { Session } from '../../../domain/session.ts'
import { type Content, html } from '../../../pages/html.ts'
import { list } from '../../../pages/list.ts'
import { type Frame, linkButton, linkLine, paragraph, quiet, section } from '../../../pages/page.ts'
import { ago } from '../../../pages/times.ts'
import { cursorOf, readCursor, sessionPosition } from '../../pages.ts'
import { fieldsOf, frameFor, queryOf, sendPage } from '../answers.ts'
import { back, doneNotice, formAround, goTo, hidden, idOf, rowButton } from './form.ts'

const path = '/account/sessions'
/** With more of them the page would be heavy; nobody has so many browsers. */
const browsersShown = 15
const sessionsShown = 25

/** Where a user is signed in: browsers with the apps that were opened from them, and all others. */
const plugin: FastifyPluginAsync = async (app) => {
  const { browserSessions, sessions, clients, now } = app

  const nameOf = async ({ clientId }: Session): Promise<string> => (await clients.find(clientId))?.name ?? clientId
  const deviceIn = ({ texts }: Frame, of: Origin): string => deviceOf(of) ?? texts.account.sessions.unknown

  app.get(path, hidden, async (request, reply) => {
    const frame = frameFor(request)
    const { texts, locale, linkTo } = frame
    const { title, browsers: heading, apps, noApps, others, all, allNote } = texts.account.sessions
    const { user, session: here } = request.browser
    const after = readCursor(queryOf(request, 'after'), sessionPosition)
    const [known, page] = await Promise.all([
      browserSessions.list(user.id),
      sessions.list(user.id, { limit: sessionsShown, ...(after !== undefined && { after }) }),
    ])
    const named = await Promise.all(page.sessions.map(async (session) => ({ session, name: await nameOf(session) })))
    type Named = (typeof named)[number]
    // Behind the first page there are sessions alone.
    const shown = after === undefined ? first(known, here.id) : []
    const isOf = (id: string) => (one: Named) => one.session.parent === id
    const rest = named.filter(({ session }) => !shown.some(({ id }) => id === session.parent))

    const when = (word: string, at: number): Content => [word, ' ', ago(locale, at, now())]
    const { here: thisOne, seen, began, apart, button } = texts.account.sessions
    const browserRow = (browser: BrowserSession) => {
      const device = deviceIn(frame, browser)
      const { id, address, createdAt, seenAt } = browser
      return {
        what: [
          html`<strong>${device}</strong> ${id === here.id && html`<span class="tag">${thisOne}</span>`}`,
          html`<p class="quiet">${address} · ${when(began, createdAt)} · ${when(seen, seenAt)}</p>`,
        ],
        act: rowButton('browser', id, button, device),
        below: named.some(isOf(id)) && list(named.filter(isOf(id)).map((one) => sessionRow(one, false))),
      }
    }
    /** @param hasPlace of a session that was opened in a browser, that of the app says nothing */
    const sessionRow = ({ session, name }: Named, hasPlace: boolean) => ({
      what: [
        html`<strong>${name}</strong>`,
        html`<p class="quiet">${hasPlace && `${deviceIn(frame, session)} · ${session.address} · `}${when(seen, session.refreshedAt)}</p>`,
        session.parent !== undefined && session.scope.includes(offlineScope) && quiet(apart),
      ],
      act: rowButton('session', session.id, button, name),
    })

    const next = page.next === undefined ? undefined : cursorOf(page.next)
    const hiddenBrowsers = known.length - shown.length
    const body = [
      doneNotice(request, frame),
      formAround(reply, path, [
        shown.length > 0 && section(heading, list(shown.map(browserRow))),
        shown.length > 0 && hiddenBrowsers > 0 && quiet(others(hiddenBrowsers)),
        section(apps, rest.length > 0 ? list(rest.map((one) => sessionRow(one, true))) : quiet(noApps)),
        next !== undefined && linkLine(linkTo(path, { after: next }), texts.account.more),
        section(
          all,
          quiet(allNote),
          html`<button type="submit" class="plain danger" name="all" value="yes">${all}</button>`,
        ),
      ]),
      back(frame),
    ]
    return sendPage(reply, { title, isWide: true, body })
  })

  app.post(path, hidden, async (request, reply) => {
    const { caller, browser } = request
    const { id: userId } = browser.user
    const [ended, session] = [idOf(request, 'browser'), idOf(request, 'session')]
    if (fieldsOf(request)['all'] === 'yes') {
      // By itself, for the clients of its apps are told.
      await browserSessions.end(request, reply)
      await sessions.endAll(caller, userId)
      return sendEnded(reply)
    }
    if (ended === browser.session.id) {
      await browserSessions.end(request, reply)
      return reply.redirect(frameFor(request).linkTo('/sign-in'), 303)
    }
    // What has ended already has ended, as was asked.
    if (ended !== '') await browserSessions.endById(caller, userId, ended)
    if (session !== '') await sessions.end(caller, session, userId)
    return goTo(reply, path, 'ended')
  })

  function sendEnded(reply: FastifyReply): FastifyReply {
    const { texts, linkTo } = frameFor(reply.request)
    const { endedTitle, ended, again } = texts.account.sessions
    return sendPage(reply, { title: endedTitle, body: [paragraph(ended), linkButton(linkTo('/sign-in'), again)] })
  }
}

/** The browser that asks, and the newest of the others. */
function first(all: BrowserSession[], here: string): BrowserSession[] {
  const own = all.filter(({ id }) => id === here)
  return [...own, ...all.filter(({ id }) => id !== here)].slice(0, browsersShown)
}

export default plugin
