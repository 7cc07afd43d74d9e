/** A user of another system, in the terms of this one. Names and roles are as they are written there: not checked yet. */
export interface ImportedUser {
  /** by which the source knows this user for good; with the name of the source it finds an import's rows again */
  externalId: string
  /** of the export of another Latchkey: where the user came from at first. The source itself when not given */
  source?: string
  /** of the export of another Latchkey: the `sub` of tokens, which is a UUID */
  id?: string
  /** there is this, or an address */
  username?: string
  email?: string
  isEmailVerified?: boolean
  /** a language tag, BCP 47 */
  locale?: string
  /** in a form that `readForeignHash` knows, not checked yet; without it and a password, the user has to reset it */
  passwordHash?: string
  /** in clear, to be hashed */
  password?: string
  /** milliseconds since the epoch */
  createdAt?: number
  isDisabled?: boolean
  roles?: string[]
  /** authenticator apps whose codes are those of every app: RFC 6238 with SHA-1, 6 digits and 30 seconds */
  totps?: ImportedTotp[]
  /** whether there are second factors that cannot be taken along */
  leavesFactors?: boolean
}

/** An authenticator app. */
export interface ImportedTotp {
  /** base32, without padding; not checked yet */
  secret: string
  name?: string
  /** milliseconds since the epoch */
  createdAt?: number
}

/** A row of a file that was read, or why it cannot be taken. The reason repeats no secret. */
export type ImportedRow =
  | { line: number; user: ImportedUser }
  | {
      line: number
      reason: string
      /** where it could be read: rows of JSON may share a line */
      externalId?: string
    }

/** A file as it is read, in pieces of any size. */
export type Bytes = AsyncIterable<Uint8Array>

/** What a source needs besides the file itself. */
export interface SourceOptions {
  /** the text of the file of `--firebase-config` */
  firebaseConfig?: string
  /** a second file, where a source has two: the accounts of better-auth */
  second?: Bytes
}

/** A system that users come from. */
export interface Source {
  /**
   * Reads a file of any size, of which no more than a piece is in memory.
   *
   * @throws {ImportRefused} for what is no file of this source at all
   */
  read(file: Bytes, options: SourceOptions): AsyncGenerator<ImportedRow>
}

/** Why a file as a whole cannot be imported. */
export class ImportRefused extends Error {}
