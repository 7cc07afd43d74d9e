import type { Audit } from '../../domain/audit.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { SigningKeyRecord } from '../../domain/signing-key.ts'

/** What is asked of the table of signing keys. */
export interface SigningKeyTable {
  listSigningKeys(): Promise<SigningKeyRecord[]>
  /**
   * Adds a key as the newest of its `alg`, unless another process was faster.
   * @param expectedNewestKid the newest key (by `createdAt`) of the `alg` that the caller knows; undefined for none
   * @returns false when that is no longer the newest, or the new one would not be newer
   */
  addSigningKey(key: SigningKeyRecord, expectedNewestKid: string | undefined, audit?: Audit): Promise<boolean>
  /** @returns false when there was none */
  removeSigningKey(kid: string, audit?: Audit): Promise<boolean>
  /**
   * Replaces the sealed private half of a key by the same, sealed anew.
   * @returns false when it is no longer the `expected` one, or the key is gone
   */
  resealSigningKey(kid: string, expected: Uint8Array, sealed: Uint8Array): Promise<boolean>
  /**
   * Removes keys before their time, and records the revocation of each that was there: all of it, or nothing.
   * @param audit one row for each kid that it is given
   * @returns the kids of those that were there
   */
  withdrawSigningKeys(kids: string[], end: End, audit?: Audit<string[]>): Promise<string[]>
}
