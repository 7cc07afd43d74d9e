import { createTransport } from 'nodemailer'
import type { Mailbox, SmtpServer } from '../../../config/mail.ts'
import { headersOf, messageIdOf } from './eml.ts'
import { type Mail, MailFailed, type Transport } from './transport.ts'

/** Of a server that says nothing; one that says a little at a time is left when the signal of the sender says so. */
const silenceMs = { connectionTimeout: 10_000, greetingTimeout: 10_000, socketTimeout: 20_000, dnsTimeout: 5_000 }
/** Of one answer; a real one has a few lines. */
const mostBytes = 65_536
/** Mail servers count connections of a client. */
const connectionsAtMost = 2

/**
 * Sends mails to a mail server. TLS is required, and the certificate is checked: a mail with a link is a key to an
 * account. To a server on this machine there is nobody in between, and few have a certificate.
 */
export function createSmtp({ host, port, isTlsFirst, isLoopback, auth }: SmtpServer, from: Mailbox): Transport {
  const isChecked = isTlsFirst || !isLoopback
  const transporter = createTransport({
    ...{ host, port, secure: isTlsFirst, ...(auth && { auth }) },
    ...{ requireTLS: !isLoopback, opportunisticTLS: isLoopback, tls: { rejectUnauthorized: isChecked } },
    // What it cannot send at once it is told again: the outbox knows when.
    ...{ pool: true, maxConnections: connectionsAtMost, maxRequeues: 0 },
    ...{ ...silenceMs, maxResponseSize: mostBytes },
    ...{ disableFileAccess: true, disableUrlAccess: true },
  })

  const failed = (error: unknown, mail?: Mail): never => {
    const secrets = [auth?.pass, mail?.link, mail?.code, mail?.to]
    throw new MailFailed(
      wordsFor(
        error as SmtpError,
        secrets.filter((secret) => secret !== undefined),
      ),
    )
  }

  return {
    async send(mail, signal) {
      const { to, subject, text, html } = mail
      // As objects, addresses are not looked for in a text.
      const envelope = { from: { ...from }, to: { name: '', address: to }, messageId: messageIdOf(mail, from) }
      const headers = headersOf(mail)
      await transporter.sendMail({ ...envelope, headers, subject, text, html, signal }).catch((e) => failed(e, mail))
    },
    async check(signal) {
      // Nothing ends a connection that asks only, but what it takes for silence.
      const late = new Promise<never>((_, reject) => {
        signal.addEventListener('abort', () => reject(new MailFailed(tooLong)))
      })
      await Promise.race([transporter.verify().catch(failed), late])
    },
    close: () => transporter.close({ force: true }),
  }
}

type SmtpError = Error & { code?: string; command?: string; response?: string; responseCode?: number }

const tooLong = 'it took too long'
/** Of a server's own words, as many. */
const mostCharacters = 200

/** In the words of OpenSSL. */
const unknownAuthority = /self-signed certificate|issuer certificate|first certificate/

/** What a server says may repeat what it was sent. */
function wordsFor({ name, code, command = '', message, response, responseCode }: SmtpError, secrets: string[]): string {
  if (name === 'AbortError') return tooLong
  const [status = String(responseCode)] = /^\d{3}([ -]\d+\.\d+\.\d+)?/.exec(response ?? '') ?? []
  if (code === 'EAUTH') return `it does not take the user name and the password (${response ? status : 'no answer'})`
  if (command === 'STARTTLS' && response) return `it has no TLS, which is required but on this machine (${status})`
  if (code === 'ECONNECTION' && !response) return 'it closed the connection'
  const encoded = secrets.flatMap((secret) => [
    secret,
    encodeURIComponent(secret),
    Buffer.from(secret).toString('base64'),
  ])
  const seen = encoded.reduce((text, secret) => text.replaceAll(secret, '…'), response ?? message)
  const line = seen.replace(/[\s\p{Cc}]+/gu, ' ').slice(0, mostCharacters)
  if (response) return `it answered ${line}${command && ` to ${command}`}`
  return unknownAuthority.test(line) ? `${line}; NODE_EXTRA_CA_CERTS names authorities that are not known here` : line
}
