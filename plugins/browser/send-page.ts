import type { FastifyReply, FastifyRequest } from 'fastify'
import { type Frame, frameOf, type Page, renderPage } from '../../pages/page.ts'
import { localeOf } from '../http/locale.ts'

/** What the pages of an answer have in common. A language that the URL names stays with its links. */
export function frameFor(request: FastifyRequest): Frame {
  const { publicPath, mail, theme } = request.server
  const locale = localeOf(request)
  const asked = 'ui_locales' in (request.query as object) ? locale : undefined
  return frameOf(locale, asked, { publicPath, serviceName: mail.service, theme })
}

/**
 * No script but our own, nothing from elsewhere, in no frame; and no address of a page, which may hold the secret of a
 * link, leaves with a request that it makes.
 */
const pageHeaders = ({ script, formTargets = [] }: Page) => ({
  'content-security-policy': [
    "default-src 'none'",
    "style-src 'self'",
    "script-src 'self'",
    "img-src 'self' data:",
    // To ask for what a passkey is to sign.
    ...(script === 'passkey' ? ["connect-src 'self'"] : []),
    "base-uri 'none'",
    "frame-ancestors 'none'",
    ["form-action 'self'", ...formTargets].join(' '),
  ].join('; '),
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
})

/** Answers with a page. */
export const sendPage = (reply: FastifyReply, page: Page, status = 200): FastifyReply =>
  reply
    .code(status)
    .headers(pageHeaders(page))
    .type('text/html; charset=utf-8')
    .send(renderPage(frameFor(reply.request), page))
