const mostOctets = 254

/** The HTML standard's, with letters and digits of any script in the domain. */
const address =
  /^[\w.!#$%&'*+/=?^`{|}~-]+@[\p{L}\p{N}\p{M}](?:[\p{L}\p{N}\p{M}-]{0,61}[\p{L}\p{N}\p{M}])?(?:\.[\p{L}\p{N}\p{M}](?:[\p{L}\p{N}\p{M}-]{0,61}[\p{L}\p{N}\p{M}])?)*$/u

/** What `isEmail` wants, as an error says it. */
export const emailRule = `must be one address such as ada@example.com, of at most ${mostOctets} octets`

export const isEmail = (text: string): boolean => Buffer.byteLength(text) <= mostOctets && address.test(text)

/** The form in which addresses are compared: NFKC and lower case, as that of names. */
export { mapUsername as mapEmail } from './usernames.ts'
