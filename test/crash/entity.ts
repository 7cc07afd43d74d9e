import type { AuditRow } from '../../domain/audit.ts'
import type { Store } from '../../stores/store.ts'
import { type Answer, type Call, NotSent } from './call.ts'
import type { Ledger, Outcome } from './ledger.ts'

/** What an actor acts in: the service that runs just now, the ledger, and chance. */
export interface World {
  readonly ledger: Ledger
  readonly random: () => number
  /** how long a spent refresh token may be presented again */
  readonly graceMs: number
  call(path: string, call?: Call): Promise<Answer>
  /** The same as an administrator. */
  admin(path: string, call?: Call): Promise<Answer>
  /** Is called as a write is sent. */
  onWrite(what: string): void
  /** A number for a name. */
  next(): number
  /** What is known of keys that were withdrawn after a leak. */
  readonly leaks: Leaks
}

/** An access token, and when it was asked for and had. */
export interface AccessToken {
  text: string
  askedAt: number
  gotAt: number
}

/** Which access tokens have to be, or may be, refused because their key was withdrawn. */
export interface Leaks {
  isRefused(token: AccessToken): boolean
  mayBeRefused(token: AccessToken): boolean
}

/** How many writes were carried out. */
interface Count {
  least: number
  most: number
}

/** Something with a life in the store: an account, a client, the signing keys. Its requests come one after another. */
export abstract class Entity {
  protected readonly world: World
  /** Of what was sent and not answered: how to find out what became of it. */
  #doubt: { settle: () => Promise<Outcome>; count: Count } | undefined
  /** by what they did */
  readonly #writes = new Map<string, Count>()

  constructor(world: World) {
    this.world = world
  }

  abstract readonly name: string

  get isInDoubt(): boolean {
    return this.#doubt !== undefined
  }

  /** Whether there is nothing more to be done with it. */
  abstract readonly isDone: boolean
  /** Sends one request, by chance. Not while one is in doubt. @throws {NoAnswer} @throws {NotSent} */
  abstract proceed(): Promise<void>
  /** Asks the service whether everything is as it was acknowledged. */
  abstract check(): Promise<void>
  /** Looks into the store itself for what cannot be seen over HTTP, such as audit rows. */
  abstract checkStored(store: Store): Promise<void>

  /** Finds out what became of a request that was not answered. May be cut off, and is then begun anew. */
  async settle(): Promise<void> {
    if (!this.#doubt) return
    const { settle, count } = this.#doubt
    const outcome = await settle()
    this.world.ledger.outcomes[outcome] += 1
    if (outcome === 'after') count.least += 1
    if (outcome === 'before') count.most -= 1
    this.#doubt = undefined
  }

  /**
   * Sends a write. Where no answer comes, it stays in doubt.
   *
   * @param status of success
   * @param settle finds out what became of it
   * @param bearer the access token that it is sent with
   * @returns the answer; undefined when it was refused
   */
  protected async write(
    what: string,
    send: () => Promise<Answer>,
    status: number,
    settle: () => Promise<Outcome>,
    bearer?: AccessToken,
  ): Promise<Answer | undefined> {
    const count = this.#countOf(what)
    this.#doubt = { settle, count }
    this.world.onWrite(what)
    count.most += 1
    let answer: Answer
    try {
      answer = await send()
    } catch (error) {
      if (error instanceof NotSent) {
        this.#doubt = undefined
        count.most -= 1
      }
      throw error
    }
    this.#doubt = undefined
    const isRefused = answer.status === 401 && bearer && this.world.leaks.mayBeRefused(bearer)
    if (isRefused || !this.expect(`${what} is answered`, answer.status, status)) {
      count.most -= 1
      return undefined
    }
    count.least += 1
    this.world.ledger.acknowledge(what)
    return answer
  }

  /** Counts a write that settles another one. It may be cut off. */
  protected async counted(what: string, send: () => Promise<Answer>): Promise<Answer> {
    const count = this.#countOf(what)
    count.most += 1
    const answer = await send()
    count.least += 1
    return answer
  }

  #countOf(what: string): Count {
    const count = this.#writes.get(what) ?? { least: 0, most: 0 }
    this.#writes.set(what, count)
    return count
  }

  /** Expects as many audit rows of an event as writes of these names were carried out. */
  protected expectRows(rows: AuditRow[], event: string, ...writes: string[]): void {
    const { unavailable } = this.world.ledger
    const counts = writes.map((what) => this.#countOf(what))
    const least = counts.reduce((sum, count) => sum + count.least, 0)
    // What was answered 503 in a comparison, and sent again, may have been done each time.
    const most = counts.reduce((sum, count) => sum + count.most, unavailable)
    const found = rows.filter((row) => row.event === event).length
    this.expect(`${found} rows of ${event}, of ${least} to ${most}`, found >= least && found <= most, true)
  }

  protected expect<T>(what: string, actual: T, ...allowed: T[]): boolean {
    return this.world.ledger.expect(`${this.name}: ${what}`, actual, ...allowed)
  }

  /** One of a list, by chance. */
  protected any<T>(list: readonly T[]): T {
    return list[Math.floor(this.world.random() * list.length)] as T
  }

  protected readonly chance = (share: number): boolean => this.world.random() < share
}
