const mostCharacters = 254

/**
 * Letters with their marks, digits, and what e-mail addresses have besides. Letters and marks that nobody sees make
 * names that look alike.
 */
const mapped = /^(?!.*\p{Default_Ignorable_Code_Point})(?:\p{L}\p{M}*|[\p{N}._@+'-])+$/u

/** What `isUsername` wants, as an error says it. */
export const usernameRule = `must be 1 to ${mostCharacters} letters, digits and ._-@+'`

/**
 * Names that look alike to a person are one: NFKC and lower case, and NFKC again for what lower case took apart.
 * Mapping a mapped name changes nothing.
 */
export function mapUsername(username: string): string {
  return username.normalize('NFKC').toLowerCase().normalize('NFKC')
}

/**
 * Whether a name may be used: whether its mapped form may, for that is what is compared, looked up and kept as a key.
 *
 * @param username as typed; counted in code points of its mapped form
 */
export function isUsername(username: string): boolean {
  const name = mapUsername(username)
  return [...name].length <= mostCharacters && mapped.test(name)
}
