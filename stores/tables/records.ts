import type { RecordBounds, RecordKey, RecordTaking, ShortRecord } from '../../domain/record.ts'

/**
 * What is asked of short-lived records. What takes one and acts on it takes it inside its own step, as `createSession`
 * does.
 */
export interface RecordTable {
  /**
   * Adds a record.
   * @returns false when its owner or its source has as many live records of the kind as it may, or the id is taken
   */
  issueRecord(record: ShortRecord, bounds: RecordBounds): Promise<boolean>
  /** @returns the record, also one that is spent and kept; undefined when it is unknown, expired or of another kind */
  findRecord(key: RecordKey): Promise<ShortRecord | undefined>
  /**
   * Takes a record, which has exactly one winner among any number of requests.
   * @returns the record as it was; undefined when it is unknown, spent, expired or of another kind
   */
  takeRecord(taking: RecordTaking): Promise<ShortRecord | undefined>
  /**
   * Counts a wrong guess; at `most` the record is gone.
   * @returns the misses, this one too; undefined when there is no live record
   */
  missRecord(key: RecordKey, most: number): Promise<number | undefined>
  /**
   * Replaces the data of a live record.
   * @param dueAt when something is to be sent for it; never, when not given
   * @returns false when its version is no longer `expectedVersion`
   */
  replaceRecord(key: RecordKey, expectedVersion: number, data: string, dueAt?: number): Promise<boolean>
  /** The live records of some kinds for which something is to be sent by `now`, those that wait longest first. */
  dueRecords(kinds: string[], now: number, limit: number): Promise<ShortRecord[]>
  /** Removes the records of an owner that are not spent. @returns how many there were */
  endRecords(owner: string, kinds: string[]): Promise<number>
  removeRecord(id: string): Promise<void>
}
