import { mailerMayBe, readMailbox, readSmtpUrl } from '../../../config/mail.ts'
import { type Config, ConfigError } from '../../../config.ts'
import type { Locale } from '../../../domain/user.ts'
import type { MailKind } from '../kinds.ts'

/** A mail as it is sent. */
export interface Mail {
  /** the same at each try, so that who gets it twice can tell */
  id: string
  kind: MailKind
  /** with a domain in ASCII */
  to: string
  locale: Locale
  subject: string
  text: string
  html: string
  link?: string
  code?: string
}

/** A way for mails to leave. */
export interface Transport {
  /**
   * Resolves when the mail is in other hands.
   *
   * @param signal ends it
   * @throws {MailFailed} where it is not, or nobody knows
   */
  send(mail: Mail, signal: AbortSignal): Promise<void>
  /** Asks, without a mail, whether one would be taken. @throws {MailFailed} */
  check(signal: AbortSignal): Promise<void>
  close(): void
}

/** A mail has not left. The message says why, in words for the operator: no secret, nothing of the mail. */
export class MailFailed extends Error {}

type MailConfig = Pick<
  Config,
  | 'AUTH_MAIL_FROM'
  | 'AUTH_SMTP_URL'
  | 'AUTH_MAIL_WEBHOOK'
  | 'AUTH_MAIL_WEBHOOK_SECRET'
  | 'AUTH_MAIL_DIR'
  | 'AUTH_FETCH_ALLOW'
>

/**
 * Opens what the settings name. Of the three, the one that is used is loaded.
 *
 * @returns undefined where mails are off
 * @throws {ConfigError} for a directory that cannot be written
 */
export async function openTransport(config: MailConfig, now: () => number): Promise<Transport | undefined> {
  const { AUTH_MAIL_FROM, AUTH_SMTP_URL, AUTH_MAIL_WEBHOOK, AUTH_MAIL_WEBHOOK_SECRET, AUTH_MAIL_DIR } = config
  const from = readMailbox(AUTH_MAIL_FROM ?? '')
  if (!from) return undefined
  if (AUTH_SMTP_URL !== undefined) return (await import('./smtp.ts')).createSmtp(readSmtpUrl(AUTH_SMTP_URL), from)
  if (AUTH_MAIL_WEBHOOK !== undefined) {
    const url = new URL(AUTH_MAIL_WEBHOOK)
    const allowed = mailerMayBe(url, config.AUTH_FETCH_ALLOW)
    return (await import('./webhook.ts')).createWebhook({ url, secret: AUTH_MAIL_WEBHOOK_SECRET ?? '', allowed, now })
  }
  if (AUTH_MAIL_DIR === undefined) return undefined
  try {
    return (await import('./directory.ts')).createDirectory(AUTH_MAIL_DIR, from, now)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new ConfigError(
      `AUTH_MAIL_DIR: expected a directory that can be written, got ${code} for ${JSON.stringify(AUTH_MAIL_DIR)}`,
    )
  }
}
