import { randomBytes } from 'node:crypto'
import { password } from '../support/basics.ts'
import { Entity } from './entity.ts'
import type { Outcome } from './ledger.ts'

const failuresAllowed = 10
/** A wait that begins with the last failure is longer. */
const waitMs = 20_000

/** An account that somebody guesses at: what has failed is counted, also across a crash. */
export class Guesser extends Entity {
  readonly name = `guessed-${this.world.next()}-${randomBytes(4).toString('hex')}`
  isDone = false
  #isThere = false
  #failures = 0
  /** that were not answered */
  #perhaps = 0
  #lastAt = 0

  async proceed(): Promise<void> {
    if (!this.#isThere) return this.#signUp()
    if (this.#failures + this.#perhaps >= failuresAllowed) return
    const sentAt = Date.now()
    const settle = async (): Promise<Outcome> => {
      this.#perhaps += 1
      return 'either'
    }
    if (!(await this.write('failed login', () => this.#tryLogIn('a wrong password'), 400, settle))) return
    this.#failures += 1
    this.#lastAt = sentAt
  }

  async #signUp(): Promise<void> {
    const send = () => this.world.call('/signup', { json: { username: this.name, password } })
    const settle = async (): Promise<Outcome> => {
      const { status } = await send()
      this.#isThere = this.expect('a sign-up in doubt can be sent again', status, 201, 409)
      return status === 201 ? 'before' : 'after'
    }
    this.#isThere = (await this.write('signup', send, 201, settle)) !== undefined
  }

  #tryLogIn = (password: string) =>
    this.world.call('/token', { form: { grant_type: 'password', username: this.name, password } })

  async check(): Promise<void> {
    if (this.#failures + this.#perhaps < failuresAllowed) return
    this.isDone = true
    if (this.#failures >= failuresAllowed && Date.now() - this.#lastAt < waitMs)
      this.expect('after so many failures it has to wait', (await this.#tryLogIn(password)).status, 429)
  }

  /** What was guessed is told of in batches, behind the answer: a crash may lose it. */
  async checkStored(): Promise<void> {}
}
