import type { Mailbox } from '../../../config/mail.ts'
import { toMailedEmail } from '../../../domain/emails.ts'
import type { Mail } from './transport.ts'

/*
 * The text of a mail file, and reading it back. Lines of it are as they are, in UTF-8: a link in quoted-printable, as
 * nodemailer writes it for a mail server, is broken in two.
 */

/** So many octets make an encoded word of 75 characters (RFC 2047 §2). */
const octetsPerWord = 45

function toWords(text: string): string {
  const words: string[] = ['']
  for (const character of text) {
    const longer = words.at(-1) + character
    if (Buffer.byteLength(longer) > octetsPerWord) words.push(character)
    else words[words.length - 1] = longer
  }
  return words.map((word) => `=?UTF-8?B?${Buffer.from(word).toString('base64')}?=`).join('\r\n ')
}

/** Text of a header field, which no control character ends. */
function toHeader(text: string): string {
  const line = text.replace(/\p{Cc}+/gu, ' ')
  return /^[\x20-\x7e]*$/.test(line) ? line : toWords(line)
}

function toMailbox({ name, address }: Mailbox): string {
  if (name === '') return toMailedEmail(address)
  const shown = /^[\x20-\x7e]*$/.test(name) ? `"${name.replace(/["\\]/g, '\\$&')}"` : toWords(name)
  return `${shown} <${toMailedEmail(address)}>`
}

/** The fields that say what a mail is, beside those of nodemailer. */
export const headersOf = ({ locale }: Mail) => ({ 'Auto-Submitted': 'auto-generated', 'Content-Language': locale })

/** The same at each try (RFC 5322 §3.6.4). */
export const messageIdOf = ({ id }: Mail, { address }: Mailbox): string =>
  `<${id}@${toMailedEmail(address).replace(/.*@/, '')}>`

export function toEml(mail: Mail, from: Mailbox, at: Date): string {
  // Of the hash of a secret: nobody knows it in time to put it into a name that the mail has.
  const boundary = `latchkey-${mail.id}`
  const fields = {
    From: toMailbox(from),
    To: mail.to,
    Subject: toHeader(mail.subject),
    Date: at.toUTCString().replace('GMT', '+0000'),
    'Message-ID': messageIdOf(mail, from),
    ...headersOf(mail),
    'MIME-Version': '1.0',
    'Content-Type': `multipart/alternative; boundary="${boundary}"`,
  }
  const part = (type: string, content: string) =>
    `--${boundary}\r\nContent-Type: ${type}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n` +
    `${content.replace(/\r?\n/g, '\r\n')}\r\n`
  const head = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${head.join('')}\r\n${part('text/plain', mail.text)}${part('text/html', mail.html)}--${boundary}--\r\n`
}

/** What people read of a file that `toEml` has written. */
export function readEml(content: string): { from: string; to: string; subject: string; date: string; text: string } {
  const [, boundary = ''] = /boundary="(.*?)"/.exec(content) ?? []
  const [head = '', first = ''] = content.split(`--${boundary}\r\n`)
  const field = (name: string) => {
    const [, value = ''] = new RegExp(`^${name}: (.*(?:\\r\\n .*)*)`, 'm').exec(head) ?? []
    const words = value.replace(/\?=\r\n =\?/g, '?==?')
    return words.replace(/=\?UTF-8\?B\?(.*?)\?=/g, (_, word: string) => Buffer.from(word, 'base64').toString())
  }
  const text = first.slice(first.indexOf('\r\n\r\n'))
  return {
    ...{ from: field('From'), to: field('To'), subject: field('Subject'), date: field('Date') },
    text: text.replaceAll('\r\n', '\n').trim(),
  }
}
