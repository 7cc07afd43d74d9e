import { omitUndefined } from '../../../domain/omit-undefined.ts'
import { takeHash } from '../../../plugins/login/foreign-hashes.ts'
import { fromBase64, type PasswordHash } from '../../../plugins/login/password-hash.ts'
import type { ImportedTotp, ImportedUser, Source } from '../imported-user.ts'
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
import { toBase32 } from '../totp-secrets.ts'

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
    ...factorsOf(members),
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

/** Kinds of credentials that are second factors, or passkeys: those are bound to the host name of Keycloak. */
const factorTypes = new Set(['otp', 'webauthn', 'webauthn-passwordless'])

function factorsOf(members: Members): Pick<ImportedUser, 'totps' | 'leavesFactors'> {
  const credentials = objectsOf(members, 'credentials').filter(({ type }) => factorTypes.has(type as string))
  const totps = credentials.flatMap((credential) => totpOf(credential) ?? [])
  return omitUndefined({
    totps: totps.length > 0 ? totps : undefined,
    leavesFactors: totps.length < credentials.length || undefined,
  })
}

/** @returns undefined for what is no authenticator app, or one whose codes are made in another way */
function totpOf(credential: Members): ImportedTotp | undefined {
  if (credential['type'] !== 'otp') return undefined
  const data = parse(credential, 'credentialData')
  const secret = textOf(parse(credential, 'secretData'), 'value')
  const isUsual = data['subType'] === 'totp' && data['algorithm'] === 'HmacSHA1'
  if (!isUsual || data['digits'] !== 6 || data['period'] !== 30 || secret === undefined) return undefined
  return omitUndefined({
    // Without an encoding it is the text itself that is the key.
    secret: data['secretEncoding'] === 'BASE32' ? secret : toBase32(Buffer.from(secret)),
    name: textOf(credential, 'userLabel'),
    createdAt: timeOf(credential, 'createdDate'),
  })
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
