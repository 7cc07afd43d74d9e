import { domainToASCII } from 'node:url'

const mostOctets = 254

/** The HTML standard's, with letters and digits of any script in the domain. */
const letter = '[\\p{L}\\p{N}\\p{M}]'
const label = `${letter}(?:(?:${letter}|-){0,61}${letter})?`
const address = new RegExp(`^[\\w.!#$%&'*+/=?^\`{|}~-]+@${label}(?:\\.${label})*$`, 'u')
const asciiAddress = /^[^@]+@(?:[a-z\d](?:[a-z\d-]{0,61}[a-z\d])?\.)*[a-z\d](?:[a-z\d-]{0,61}[a-z\d])?$/

/** An address with its domain in ASCII, as the DNS has it. Without a domain that can be, it ends with its `@`. */
const toAscii = (email: string): string =>
  // One letter at a time: the last sigma of a word in capitals would become another letter, and another domain.
  email.replace(/[^@]*$/, (domain) => domainToASCII(domain.replace(/\p{Lu}/gu, (capital) => capital.toLowerCase())))

/**
 * An address as it is mailed to: as it was typed, but for a domain that is not ASCII. Software that encodes such a one
 * without mapping it first would mail to another domain.
 */
export const toMailedEmail = (email: string): string => (/^\p{ASCII}*$/u.test(email) ? email : toAscii(email))

/**
 * The form in which addresses are compared. Two that are alike are delivered to one mailbox, for a domain has one form
 * in ASCII, and a local part is ASCII in lower case.
 */
export const mapEmail = (email: string): string => toAscii(email).toLowerCase()

/** What `isEmail` wants, as an error says it. */
export const emailRule = `must be one address, local@domain, of at most ${mostOctets} octets`

/** Whether a text is one address: `local@domain`, without quotes and comments. */
export const isEmail = (text: string): boolean =>
  Buffer.byteLength(text) <= mostOctets && address.test(text) && isMapped(mapEmail(text))

const isMapped = (email: string): boolean => email.length <= mostOctets && asciiAddress.test(email)
