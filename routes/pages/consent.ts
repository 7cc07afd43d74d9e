import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { mayHaveScope } from '../../domain/grant.ts'
import { openIdScopes } from '../../domain/scope.ts'
import { renderForm } from '../../pages/form.ts'
import { checks, facts } from '../../pages/list.ts'
import { breaking, type Frame, linkLine, named, paragraph } from '../../pages/page.ts'
import type { AuthorizationRequest } from '../../plugins/authorization/pending.ts'
import type { Browser } from '../../plugins/browser/browser-sessions.ts'
import { fieldsOf, frameFor, sendPage, sendWords } from './answers.ts'
import { type Asked, askedOf, nameOf, sendStale } from './asked.ts'

const path = '/consent'

/** What an app asks for, with both answers. */
interface Question extends Asked {
  pending: AuthorizationRequest
}

/** Asks a user whether an app may have what it asks for. */
const plugin: FastifyPluginAsync = async (app) => {
  const { config, authorization, browserSessions, forms } = app

  /** @returns undefined where the answer is sent already */
  async function read(
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<{ asked: Question; browser: Browser } | undefined> {
    const asked = askedOf(request)
    if (!asked) sendStale(reply)
    else if (!isQuestion(asked)) sendWords(reply, frameFor(request).texts.noConsent, 400)
    else {
      const browser = await browserSessions.of(request)
      if (browser) return { asked, browser }
      await authorization.goOn(request, reply, asked.pending, undefined)
    }
    return undefined
  }

  app.get(path, { schema: { hide: true } }, async (request, reply) => {
    const came = await read(request, reply)
    return came ? sendQuestion(reply, came.asked, came.browser) : reply
  })

  app.post(path, { schema: { hide: true } }, async (request, reply) => {
    forms.check(request, path)
    const came = await read(request, reply)
    if (!came) return reply
    const { asked, browser } = came
    const { decision } = fieldsOf(request)
    if (decision === 'deny') return authorization.deny(reply, asked.pending)
    if (decision !== 'allow') return sendQuestion(reply, asked, browser)
    return authorization.goOn(request, reply, authorization.chosen(asked.pending), browser, { consented: true })
  })

  async function sendQuestion(reply: FastifyReply, asked: Question, { user }: Browser): Promise<FastifyReply> {
    const { request } = reply
    const { pending, sealed } = asked
    const frame = frameFor(request)
    const { texts, linkTo } = frame
    const { consent } = texts
    const client = await authorization.clientOf(pending)
    const scope = pending.scope.filter((name) => mayHaveScope(user, [name]))
    const target = new URL(pending.redirectUri)
    const audience = [pending.aud].flat().filter((aud) => aud !== config.AUTH_AUDIENCE)
    const choice = (value: 'allow' | 'deny') =>
      ({ label: consent[value], name: 'decision', value, kind: 'plain' }) as const
    const body = [
      paragraph(consent.app),
      named(nameOf(client)),
      paragraph(consent.gets),
      checks(linesFor(frame, scope)),
      facts([
        [consent.leadsTo, breaking(target.host || target.protocol)],
        ...audience.map((aud): [string, ReturnType<typeof breaking>] => [consent.at, breaking(aud)]),
        [texts.username, breaking(user.username)],
      ]),
      renderForm(frame, {
        action: linkTo(path),
        hidden: { request: sealed, ...forms.hidden(request, reply, path) },
        button: [choice('deny'), choice('allow')],
      }),
      linkLine(linkTo('/sign-in', { request: sealed, as: 'another' }), texts.signIn.another),
    ]
    return sendPage(reply, { title: consent.title, body, formTargets: authorization.formTargets(pending) })
  }
}

const isQuestion = (asked: Asked): asked is Question => asked.pending.kind === 'authorization'

/** What a scope means, in words where we know it; what an API calls its own stands as it is. */
export function linesFor({ texts: { consent } }: Frame, scope: string[]): string[] {
  const known = openIdScopes.filter((name) => scope.includes(name)).map((name) => consent.scopes[name])
  const others = scope.filter((name) => !openIdScopes.some((one) => one === name))
  const lines = [...known, ...others.map((name) => (name === 'admin' ? consent.admin : `${consent.other} ${name}`))]
  return lines.length > 0 ? lines : [consent.scopes.openid]
}

export default plugin
