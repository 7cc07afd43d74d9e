import { omitUndefined } from '../../../domain/omit-undefined.ts'
import { takeHash } from '../../../plugins/login/foreign-hashes.ts'
import { fromBase64, type PasswordHash } from '../../../plugins/login/password-hash.ts'
import type { ImportedUser, Source } from '../imported-user.ts'
import {
  booleanOf,
  idOf,
  type Members,
  objectOf,
  objectsOf,
  textOf,
  textsOf,
  timeOf,
  toMembers,
  toUsers,
} from '../members.ts'
import { readRows } from '../read-rows.ts'
import { RowRefused } from '../rows.ts'

/**
 * What `kc.sh export` writes of a realm: one file with all of it, or files of users.
 *
 * @see https://www.keycloak.org/server/importExport
 */
export const keycloak: Source = {
  read: (file) => toUsers(readRows(file, { member: 'users' }), toUser, 'id'),
}

/** Roles that Keycloak gives to everybody for its own purposes. */
const own = /^(?:default-roles-.*|offline_access|uma_authorization)$/

function toUser(members: Members): ImportedUser {
  if (textOf(members, 'serviceAccountClientId') !== undefined)
    throw new RowRefused('it is the service account of a client')
  const isEnabled = booleanOf(members, 'enabled')
  return omitUndefined({
    externalId: idOf(members, 'id'),
    username: textOf(members, 'username'),
    email: textOf(members, 'email'),
    isEmailVerified: booleanOf(members, 'emailVerified'),
    locale: textsOf(objectOf(members, 'attributes') ?? {}, 'locale')?.[0],
    passwordHash: hashOf(members),
    createdAt: timeOf(members, 'createdTimestamp'),
    isDisabled: isEnabled === undefined ? undefined : !isEnabled,
    roles: textsOf(members, 'realmRoles')?.filter((role) => !own.test(role)),
  })
}

function hashOf(members: Members): string | undefined {
  const credential = objectsOf(members, 'credentials').find((each) => each['type'] === 'password')
  if (!credential) return undefined
  const parts = partsOf(parse(credential, 'secretData'), parse(credential, 'credentialData'))
  if (!parts) throw new RowRefused('the hash is in no form that is known')
  const hash = takeHash(parts)
  if ('refused' in hash) throw new RowRefused(hash.refused)
  return hash.stored
}

/** The parts of a credential are JSON in texts. */
function parse(credential: Members, name: string): Members {
  try {
    return toMembers(JSON.parse(textOf(credential, name) ?? ''), name)
  } catch {
    throw new RowRefused(`${name} is no JSON object`)
  }
}

const pbkdf2 = { pbkdf2: 'sha1', 'pbkdf2-sha256': 'sha256', 'pbkdf2-sha512': 'sha512' } as const
const argon2Versions: Record<string, number> = { '1.0': 16, '1.3': 19 }

function partsOf(secret: Members, data: Members): PasswordHash | undefined {
  const salt = fromBase64(textOf(secret, 'salt') ?? '')
  const digest = fromBase64(textOf(secret, 'value') ?? '')
  const algorithm = textOf(data, 'algorithm') ?? ''
  const iterations = Number(data['hashIterations'])
  if (!salt || !digest || !Number.isSafeInteger(iterations)) return undefined
  if (Object.hasOwn(pbkdf2, algorithm))
    return { scheme: 'pbkdf2', hash: pbkdf2[algorithm as keyof typeof pbkdf2], iterations, salt, digest }
  if (algorithm !== 'argon2') return undefined
  const more = toMembers(data['additionalParameters'] ?? {}, 'additionalParameters')
  const [type, version, memory, lanes] = ['type', 'version', 'memory', 'parallelism'].map(
    (name) => textsOf(more, name)?.[0],
  )
  if (type !== 'id' && type !== 'i' && type !== 'd') return undefined
  return {
    ...{ scheme: `argon2${type}`, version: argon2Versions[version ?? '1.3'] ?? 0 },
    ...{ memory: Number(memory), passes: iterations, lanes: Number(lanes), salt, digest },
  }
}
