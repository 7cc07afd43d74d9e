import type { FastifyInstance, FastifyReply } from 'fastify'
import type { Refusal } from '../../errors.ts'
import { noteRefusal } from '../http/errors.ts'
import type { AuthorizationRequest } from './pending.ts'

/** Where an answer goes, and how. */
type Returning = Pick<AuthorizationRequest, 'redirectUri' | 'responseMode'> & { state?: string | undefined }

/** Sends answers to apps, by the browser. */
export function createAnswers(
  { config }: Pick<FastifyInstance, 'config'>,
  sendFormPost: (reply: FastifyReply, action: string, fields: Record<string, string>) => FastifyReply,
) {
  /**
   * Each answer says whose it is (RFC 9207): a client of several services is not led to take the code of one to another
   * (mix-up, RFC 9700 §4.4). The redirect is a 303, so that no form with a password is sent on (RFC 9700 §4.12).
   */
  function answer(reply: FastifyReply, { redirectUri, responseMode, state }: Returning, of: Record<string, string>) {
    const members = { ...of, ...(state !== undefined && { state }), iss: config.AUTH_ISSUER }
    if (responseMode === 'form_post') return sendFormPost(reply, redirectUri, members)
    const joint = redirectUri.includes('?') ? '&' : '?'
    return reply.redirect(`${redirectUri}${joint}${new URLSearchParams(members)}`, 303)
  }

  return {
    answer,
    /** Sends a refusal to the app, RFC 6749 §4.1.2.1; why stays here, for whoever may ask. */
    refuse(reply: FastifyReply, returning: Returning, refusal: Refusal): FastifyReply {
      noteRefusal(reply, refusal)
      return answer(reply, returning, { error: refusal.oauthCode, error_description: refusal.detail })
    },
  }
}
