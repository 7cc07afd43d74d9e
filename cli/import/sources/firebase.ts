import { omitUndefined } from '../../../domain/omit-undefined.ts'
import { type FirebaseConfig, takeFirebaseHash } from '../../../plugins/login/foreign-hashes.ts'
import { type ImportedUser, ImportRefused, type Source } from '../imported-user.ts'
import { booleanOf, idOf, type Members, objectsOf, textOf, timeOf, toUsers } from '../members.ts'
import { readRows } from '../read-rows.ts'
import { RowRefused } from '../rows.ts'

/**
 * What `firebase auth:export` writes.
 *
 * @see https://firebase.google.com/docs/cli/auth
 */
export const firebase: Source = {
  async *read(file, { firebaseConfig }) {
    const config = firebaseConfig === undefined ? undefined : readConfig(firebaseConfig)
    yield* toUsers(readRows(file, { member: 'users' }), (members) => toUser(members, config), 'localId')
  },
}

function toUser(members: Members, config: FirebaseConfig | undefined): ImportedUser {
  return omitUndefined({
    externalId: idOf(members, 'localId'),
    email: textOf(members, 'email'),
    isEmailVerified: booleanOf(members, 'emailVerified'),
    passwordHash: hashOf(members, config),
    createdAt: timeOf(members, 'createdAt'),
    isDisabled: booleanOf(members, 'disabled'),
    leavesFactors: objectsOf(members, 'mfaInfo').length > 0 || undefined,
  })
}

/** In the place of each hash, where whoever exported them may not read them: "REDACTED" in base64. */
const redacted = 'UkVEQUNURUQ='

function hashOf(members: Members, config: FirebaseConfig | undefined): string | undefined {
  const passwordHash = textOf(members, 'passwordHash')
  if (passwordHash === undefined) return undefined
  if (passwordHash === redacted)
    throw new RowRefused('the hash was left out of the export, which an owner of the project has to make')
  if (!config) throw new ImportRefused('These hashes need the hash_config of their project: --firebase-config FILE')
  const hash = takeFirebaseHash({ passwordHash, salt: textOf(members, 'salt') ?? '' }, config)
  if ('refused' in hash) throw new RowRefused(hash.refused)
  return hash.stored
}

/** The parameters, as the console shows them (`hash_config { rounds: 8, … }`) or as JSON. @throws {ImportRefused} */
function readConfig(text: string): FirebaseConfig {
  const value = (name: string) => new RegExp(`"?\\b${name}"?\\s*:\\s*"?([\\w+/=-]+)`).exec(text)?.[1] ?? ''
  const config = {
    base64_signer_key: value('base64_signer_key'),
    base64_salt_separator: value('base64_salt_separator'),
    rounds: Number(value('rounds')),
    mem_cost: Number(value('mem_cost')),
  }
  for (const [name, found] of Object.entries(config))
    if (!found) throw new ImportRefused(`--firebase-config: there is no ${name} in it`)
  if (value('algorithm') !== 'SCRYPT') throw new ImportRefused('--firebase-config: the algorithm is not SCRYPT')
  return config
}
