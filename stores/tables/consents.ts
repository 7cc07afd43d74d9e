import type { Audit } from '../../domain/audit.ts'
import type { Consent, UserConsents } from '../../domain/consent.ts'

/** What is asked of the table of what users have allowed apps: one row for each user who has. */
export interface ConsentTable {
  findConsents(userId: string): Promise<UserConsents | undefined>
  /**
   * Replaces what a user has allowed.
   * @param expectedVersion as the caller has read it; 0 where there is no row
   * @returns false when the version is another, or the user is gone
   */
  changeConsents(change: ConsentsChange, audit?: Audit): Promise<boolean>
  /** Forgets what a user has allowed: for the moving of a store. */
  removeConsents(userId: string): Promise<void>
}

export interface ConsentsChange {
  userId: string
  expectedVersion: number
  next: Consent[]
}
