import { mapUsername } from './usernames.ts'

const mostOctets = 254

/** The HTML standard's, with letters and digits of any script in the domain. */
const letter = '[\\p{L}\\p{N}\\p{M}]'
const label = `${letter}(?:(?:${letter}|-){0,61}${letter})?`
const address = new RegExp(`^[\\w.!#$%&'*+/=?^\`{|}~-]+@${label}(?:\\.${label})*$`, 'u')

/** The form in which addresses are compared, as that of names. */
export const mapEmail = mapUsername

/** Whether a text is one address. Its mapped form has to be one, too: a letter may stand for many. */
export const isEmail = (text: string): boolean =>
  [text, mapEmail(text)].every((form) => Buffer.byteLength(form) <= mostOctets && address.test(form))
