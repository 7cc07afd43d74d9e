import { isEmail } from '../domain/emails.ts'
import { createFetchGuard } from '../domain/fetch-guard.ts'
import { expectedSecret } from '../domain/webhook-secret.ts'
import { validateHost } from './checks.ts'

/*
 * The settings of mails. A check returns what is wrong, or undefined; a secret is never repeated in it.
 */

/** Who a mail comes from. */
export interface Mailbox {
  /** empty where there is only an address */
  name: string
  address: string
}

const control = /\p{Cc}/u

/** Reads `Name <address>`, `"Name" <address>` or an address. @returns undefined for any other text */
export function readMailbox(text: string): Mailbox | undefined {
  const [, quoted, plain = '', address = ''] = /^(?:"([^"\\]*)"|([^"<>]*?))\s*<([^<>]+)>$/.exec(text.trim()) ?? []
  const found = address === '' ? { name: '', address: text.trim() } : { name: (quoted ?? plain).trim(), address }
  // A line break would begin another field of the header.
  return isEmail(found.address) && !control.test(found.name) ? found : undefined
}

/** What mails, and the pages that their links open, call the service: the name that mails come from, or its host. */
export const serviceName = ({
  AUTH_MAIL_FROM: from = '',
  AUTH_ISSUER: issuer,
}: {
  AUTH_MAIL_FROM?: string
  AUTH_ISSUER: string
}): string => readMailbox(from)?.name || new URL(issuer).host

/** AUTH_MAIL_FROM */
export const validateMailFrom = (text: string): string | undefined =>
  readMailbox(text) ? undefined : 'it is no single address'

const loopback = /^(localhost|127(\.\d+){3}|::1)$/i
const bareHost = ({ hostname }: URL) => hostname.replace(/^\[|\]$/g, '')

/** A mail server, and how to speak with it. */
export interface SmtpServer {
  host: string
  port: number
  /** whether the connection begins with TLS, by `smtps:`; otherwise STARTTLS is asked for */
  isTlsFirst: boolean
  /** whether it runs on this machine: then TLS has nothing to protect */
  isLoopback: boolean
  auth: { user: string; pass: string } | undefined
}

const [submission, submissions] = [587, 465]

/**
 * Reads `smtp://user:password@host:port` and `smtps://…`.
 *
 * @throws {Error} with what is wrong
 */
export function readSmtpUrl(text: string): SmtpServer {
  if (!/^smtps?:\/\//i.test(text)) throw new Error('it begins with neither smtp:// nor smtps://')
  const encode = 'in user names and passwords, / @ : # ? and % are written %2F %40 %3A %23 %3F and %25'
  const unreadable = new Error(`it cannot be read; ${encode}`)
  if (!URL.canParse(text)) throw unreadable
  const url = new URL(text)
  if (url.search !== '' || url.hash !== '' || !/^\/?$/.test(url.pathname)) throw unreadable
  const isTlsFirst = url.protocol === 'smtps:'
  const host = bareHost(url)
  if (host === '') throw new Error('it has no host')
  const problem = validateHost(host)
  if (problem) throw new Error(`the host is wrong: ${problem}`)
  const port = url.port === '' ? (isTlsFirst ? submissions : submission) : Number(url.port)
  if (port === 0) throw new Error('nobody listens on port 0')
  if (port === (isTlsFirst ? submission : submissions))
    throw new Error(`port ${port} goes with ${isTlsFirst ? 'smtp' : 'smtps'}://`)
  let auth: SmtpServer['auth']
  try {
    const [user, pass] = [decodeURIComponent(url.username), decodeURIComponent(url.password)]
    if ((user === '') !== (pass === '')) throw new Error('a user name and a password come together')
    if (control.test(user + pass)) throw new Error('a control character is in the user name or password')
    auth = user === '' ? undefined : { user, pass }
  } catch (error) {
    throw error instanceof URIError ? unreadable : error
  }
  return { host, port, isTlsFirst, isLoopback: loopback.test(host), auth }
}

/** AUTH_SMTP_URL */
export function validateSmtpUrl(text: string): string | undefined {
  try {
    readSmtpUrl(text)
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

/** AUTH_MAIL_WEBHOOK; whether its host may be asked depends on AUTH_FETCH_ALLOW. */
export const validateMailWebhook = (text: string): string | undefined =>
  URL.canParse(text) && /^https?:$/.test(new URL(text).protocol) ? undefined : 'it is no http(s) URL'

/** Of which one has the mails leave. */
export const transports = ['AUTH_SMTP_URL', 'AUTH_MAIL_WEBHOOK', 'AUTH_MAIL_DIR'] as const

/** What a mailer may be asked at: it may run on this machine, as a mail server may. @param allowed AUTH_FETCH_ALLOW */
export const mailerMayBe = (webhook: URL, allowed: string[] = []): string[] =>
  loopback.test(bareHost(webhook)) ? [...allowed, bareHost(webhook)] : allowed

interface MailSettings extends Partial<Record<(typeof transports)[number], string>> {
  AUTH_MAIL_FROM?: string
  AUTH_MAIL_WEBHOOK_SECRET?: string
  AUTH_EMAIL: 'optional' | 'required'
  AUTH_PAGES: 'on' | 'off'
  AUTH_PAGES_URL?: string
  AUTH_FETCH_ALLOW?: string[]
}

const one = `one of ${transports.join(', ')}`

/** The settings of mails that have to be there together, and those that must not be. */
export function* whatMailLacks(settings: MailSettings): Generator<string> {
  const [transport, another] = transports.filter((name) => settings[name] !== undefined)
  if (another !== undefined) yield `${another}: expected only ${one}, got ${transport}, too`
  if (transport !== undefined && settings.AUTH_MAIL_FROM === undefined)
    yield `AUTH_MAIL_FROM: expected with ${transport}, such as Example <accounts@example.com>`
  if (transport === undefined && settings.AUTH_EMAIL === 'required')
    yield `AUTH_EMAIL: expected optional where no mail is sent, or AUTH_MAIL_FROM with ${one}`
  const { AUTH_MAIL_WEBHOOK: webhook } = settings
  if (webhook === undefined) return
  if (settings.AUTH_MAIL_WEBHOOK_SECRET === undefined)
    yield `AUTH_MAIL_WEBHOOK_SECRET: expected with AUTH_MAIL_WEBHOOK, ${expectedSecret}`
  const url = new URL(webhook)
  const problem = createFetchGuard(mailerMayBe(url, settings.AUTH_FETCH_ALLOW)).problemWith(url)
  if (problem !== undefined)
    yield `AUTH_MAIL_WEBHOOK: expected an https URL of a public host, or of one that AUTH_FETCH_ALLOW names: ${problem}`
}

/** Warnings: what was set, and has no use. */
export function* mailAdvice(settings: MailSettings): Generator<string> {
  const isSent = transports.some((name) => settings[name] !== undefined)
  if (settings.AUTH_MAIL_FROM !== undefined && !isSent)
    yield `AUTH_MAIL_FROM is set, and no mail is sent: that needs ${one}`
  if (isSent && settings.AUTH_PAGES === 'off' && settings.AUTH_PAGES_URL === undefined)
    yield 'AUTH_PAGES is off, and the links in mails lead to nothing: AUTH_PAGES_URL says where pages of your own are'
}
