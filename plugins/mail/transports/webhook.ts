import { version } from '../../../config/version.ts'
import { omitUndefined } from '../../../domain/omit-undefined.ts'
import { readSecret } from '../../../domain/webhook-secret.ts'
import { createGuardedFetch, FetchFailed } from '../../run/guarded-fetch.ts'
import { sign } from '../../webhooks/signature.ts'
import { MailFailed, type Transport } from './transport.ts'

/**
 * Hands mails to a mailer of the operator's own, signed by Standard Webhooks.
 *
 * @param allowed hosts that may be private, and asked by http
 */
export function createWebhook({
  url,
  secret,
  allowed,
  now,
}: {
  url: URL
  secret: string
  allowed: string[]
  now: () => number
}): Transport {
  const key = readSecret(secret) as Buffer
  const guarded = createGuardedFetch(allowed)

  async function ask(asked: Parameters<typeof guarded.fetch>[1]): Promise<number> {
    try {
      return (await guarded.fetch(url, asked)).status
    } catch (error) {
      throw error instanceof FetchFailed ? new MailFailed(error.message) : error
    }
  }

  return {
    async send({ id, to, kind, locale, subject, text, link, code }, signal) {
      const body = JSON.stringify(omitUndefined({ type: 'mail', to, kind, locale, subject, text, link, code }))
      const headers = {
        'content-type': 'application/json',
        'user-agent': `Latchkey/${version}`,
        ...sign([key], { id, at: now(), body }),
      }
      const status = await ask({ method: 'POST', headers, body, signal })
      if (status < 200 || status > 299) throw new MailFailed(`it answered ${status}`)
    },
    /** Whatever it says to HEAD, to which it does nothing. */
    check: async (signal) => void (await ask({ method: 'HEAD', signal })),
    close: () => guarded.close(),
  }
}
