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

/** Something with a life in the store: an account, a client, the signing keys. Its requests come one after another. */
export abstract class Entity {
  protected readonly world: World
  /** Of what was sent and not answered: how to find out what became of it. */
  #doubt: (() => Promise<Outcome>) | undefined

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

  /** Finds out what became of a request that was not answered. May be cut off, and is then begun anew. */
  async settle(): Promise<void> {
    if (!this.#doubt) return
    const outcome = await this.#doubt()
    this.world.ledger.outcomes[outcome] += 1
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
    this.#doubt = settle
    this.world.onWrite(what)
    let answer: Answer
    try {
      answer = await send()
    } catch (error) {
      if (error instanceof NotSent) this.#doubt = undefined
      throw error
    }
    this.#doubt = undefined
    if (answer.status === 401 && bearer && this.world.leaks.mayBeRefused(bearer)) return undefined
    if (!this.expect(`${what} is answered`, answer.status, status)) return undefined
    this.world.ledger.acknowledge(what)
    return answer
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
