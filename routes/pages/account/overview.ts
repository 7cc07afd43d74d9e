import type { FastifyPluginAsync } from 'fastify'
import { html } from '../../../pages/html.ts'
import { list } from '../../../pages/list.ts'
import { linkButton, named, quiet } from '../../../pages/page.ts'
import { frameFor, sendPage } from '../answers.ts'
import { doneNotice, hidden } from './form.ts'

/** The page of all: whose account it is, and what there is to see and to change. */
const plugin: FastifyPluginAsync = async (app) => {
  const { mail } = app

  app.get('/account', hidden, async (request, reply) => {
    const frame = frameFor(request)
    const { account } = frame.texts
    const { user } = request.browser
    const address = user.email !== undefined && [user.email, user.emailKey === undefined ? account.no : account.yes]
    const pages: [path: string, title: string, says?: string[] | false][] = [
      ['/account/password', account.password.title],
      ...(mail.isOn ? [['/account/email', account.email.title, address] as [string, string, string[]]] : []),
      ['/account/factors', account.factors.title],
      ['/account/sessions', account.sessions.title],
      ['/account/apps', account.apps.title],
      ['/account/activity', account.activity.title],
      ['/account/export', account.export.title],
      ['/account/deletion', account.deletion.title],
    ]
    const items = pages.map(([path, title, says]) => ({
      what: [html`<a href="${frame.linkTo(path)}">${title}</a>`, says && quiet(says.join(' · '))],
    }))
    const body = [
      doneNotice(request, frame),
      named(user.username),
      list(items),
      linkButton(frame.linkTo('/sign-out'), account.signOut, 'plain'),
    ]
    return sendPage(reply, { title: account.title, body })
  })
}

export default plugin
