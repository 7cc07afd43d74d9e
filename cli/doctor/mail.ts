import { accessSync, constants, existsSync } from 'node:fs'
import { readSmtpUrl, transports } from '../../config/mail.ts'
import type { Config } from '../../config.ts'
import { MailFailed } from '../../plugins/mail/transports/transport.ts'
import { type Check, failed, NotKnown, ok, skipped, warning } from './check.ts'
import type { Facts } from './facts.ts'
import { isLoopback } from './http.ts'

const transportOf = (config: Config) => transports.find((name) => config[name] !== undefined)

/** Where mails go, without what is secret of it. */
function placeOf({ AUTH_SMTP_URL, AUTH_MAIL_WEBHOOK, AUTH_MAIL_DIR }: Config): string {
  if (AUTH_SMTP_URL !== undefined) {
    const { host, port, auth } = readSmtpUrl(AUTH_SMTP_URL)
    return `${host}:${port}${auth ? ' with a password' : ''}`
  }
  return AUTH_MAIL_WEBHOOK === undefined ? `files in ${AUTH_MAIL_DIR}` : new URL(AUTH_MAIL_WEBHOOK).host
}

function mayWrite(dir: string): boolean {
  try {
    accessSync(dir, constants.W_OK | constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** How mails leave. */
export const mail: Check<Facts>[] = [
  {
    id: 'mail',
    find({ config }) {
      const { AUTH_MAIL_FROM: from, AUTH_MAIL_DIR: dir, AUTH_ISSUER: issuer } = config()
      if (!transportOf(config())) return skipped('mails are off')
      const seen = `to ${placeOf(config())}, from ${from}`
      return dir === undefined || isLoopback(issuer)
        ? ok(seen)
        : warning(seen, 'AUTH_MAIL_DIR', 'nobody gets them: set AUTH_SMTP_URL or AUTH_MAIL_WEBHOOK in its place')
    },
  },
  {
    id: 'mail.reach',
    async find({ config, askMailer }) {
      const setting = transportOf(config())
      if (!setting) throw new NotKnown('mails are off')
      const { AUTH_MAIL_DIR: dir } = config()
      if (dir !== undefined) {
        if (!existsSync(dir)) return ok(`${dir} is made by the first start`)
        return mayWrite(dir) ? ok(`${dir} can be written`) : failed(`${dir} cannot be written`, setting, 'chown it')
      }
      try {
        await askMailer()
        return ok(setting === 'AUTH_SMTP_URL' ? 'the mail server takes the login' : 'the mailer answers')
      } catch (error) {
        if (!(error instanceof MailFailed)) throw error
        return failed(`${placeOf(config())}: ${error.message}`, setting, 'mend it, or the server: no mail leaves')
      }
    },
  },
]
