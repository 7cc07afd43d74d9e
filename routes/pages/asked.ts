import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Client } from '../../domain/client.ts'
import { html } from '../../pages/html.ts'
import { type Frame, linkButton, named, paragraph } from '../../pages/page.ts'
import type { Pending } from '../../plugins/authorization/pending.ts'
import { fieldsOf, frameFor, queryOf, sendWords } from './answers.ts'

/** What somebody signs in for, as it goes along with the pages on the way. */
export interface Asked {
  pending: Pending
  /** the field `request` of URLs and forms; undefined where somebody has come by themselves */
  sealed: string | undefined
}

/** What goes along, as it came: also with pages that have no need to open it. */
export const sealedOf = (request: FastifyRequest): string | undefined =>
  fieldsOf(request)['request'] || queryOf(request, 'request') || undefined

/**
 * Opens what a page is asked for. Whoever has come by themselves gets to their account.
 *
 * @returns undefined for what is too old, or of another browser
 */
export function askedOf(request: FastifyRequest): Asked | undefined {
  const { authorization, now } = request.server
  const sealed = sealedOf(request)
  if (sealed === undefined) return { pending: { kind: 'page', to: '/account', askedAt: now() }, sealed }
  const pending = authorization.open(request, sealed)
  return pending && { pending, sealed }
}

/** Says that a sign-in has to begin anew. An app that it was for cannot be told: what it has asked for cannot be read. */
export function sendStale(reply: FastifyReply): FastifyReply {
  const { texts, linkTo } = frameFor(reply.request)
  return sendWords(reply, texts.stale, 400, linkButton(linkTo('/sign-in'), texts.signIn.title))
}

/** The app that somebody signs in for. @throws {Refusal} where it is gone */
export const appOf = async ({ server }: FastifyRequest, { pending }: Asked): Promise<Client | undefined> =>
  pending.kind === 'authorization' ? server.authorization.clientOf(pending) : undefined

/** Names that app, by a name that its administrator has given it. */
export const nameOf = (client: Client): string => client.name ?? client.id

export const forApp = ({ texts }: Frame, client: Client | undefined) =>
  client && [paragraph(texts.signIn.forApp), named(nameOf(client))]

/** What only a script can do is said where there is none. */
export const withoutScript = ({ texts }: Frame) =>
  html`<noscript><p class="quiet">${texts.signIn.noScript}</p></noscript>`
