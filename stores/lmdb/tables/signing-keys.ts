import type { SigningKeyRecord } from '../../../domain/signing-key.ts'
import type { SigningKeyTable } from '../../tables/signing-keys.ts'
import { type Check, checkOf } from '../checks.ts'
import type { Databases } from '../databases.ts'
import type { Runs } from '../runs.ts'
import { createAuditRows } from './audit.ts'
import { createRevocationRows } from './revocations.ts'

/** The signing keys of the embedded store. */
export function createSigningKeys(databases: Databases, { read, write, change }: Runs): SigningKeyTable {
  const { signingKeys } = databases
  const { record } = createRevocationRows(databases)
  const audits = createAuditRows(databases)
  return {
    listSigningKeys: () => read(() => [...signingKeys.getRange()].map(({ value }) => value)),
    addSigningKey: (key, expectedNewestKid, audit) =>
      change(audit, () => {
        const sameAlg = [...signingKeys.getRange()].map(({ value }) => value).filter(({ alg }) => alg === key.alg)
        const newest = sameAlg.reduce<SigningKeyRecord | undefined>(
          (a, b) => (a && a.createdAt >= b.createdAt ? a : b),
          undefined,
        )
        if (newest?.kid !== expectedNewestKid || (newest && newest.createdAt >= key.createdAt)) return false
        signingKeys.put(key.kid, key)
        return true
      }),
    removeSigningKey: (kid, audit) =>
      change(audit, () => {
        if (!signingKeys.doesExist(kid)) return false
        signingKeys.remove(kid)
        return true
      }),
    resealSigningKey: (kid, expected, sealedPrivateKey) =>
      write(() => {
        const key = signingKeys.get(kid)
        if (!key?.sealedPrivateKey || Buffer.compare(key.sealedPrivateKey, expected) !== 0) return false
        signingKeys.put(kid, { ...key, sealedPrivateKey })
        return true
      }),
    withdrawSigningKeys: (kids, { now: revokedAt, expiresAt }, audit) =>
      write(() => {
        const known = kids.filter((kid) => signingKeys.doesExist(kid))
        const told = audit?.(known) ?? []
        for (const id of known) {
          signingKeys.remove(id)
          record({ kind: 'key', id, revokedAt, expiresAt })
        }
        audits.add(told)
        return known
      }),
  }
}

/** What `store check` finds wrong with each entry. */
export function checkSigningKeys({ signingKeys }: Databases): Check[] {
  return [
    checkOf('signing_keys', signingKeys, (kid) =>
      signingKeys.get(kid)?.kid === kid ? undefined : 'the row does not fit its key',
    ),
  ]
}
