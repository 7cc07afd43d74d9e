import { randomBytes } from 'node:crypto'
import type { Store } from '../../stores/store.ts'
import type { Answer } from './call.ts'
import { type AccessToken, Entity } from './entity.ts'
import type { Outcome } from './ledger.ts'

const overlapSeconds = 86_400
const [replacement, rotation] = ["replacement of a client's secret", "rotation of a client's secret"]

/** A confidential client, which administrators make, change and delete. */
export class OAuthClient extends Entity {
  readonly name = `client-${this.world.next()}-${randomBytes(4).toString('hex')}`
  readonly #path = `/admin/clients/${this.name}`
  #state: 'new' | 'there' | 'gone' = 'new'
  #isDisabled = false
  #secret = ''
  /** good beside the secret for as long as the two overlap */
  #formerSecret: string | undefined
  #refusedSecret: string | undefined
  #token: AccessToken | undefined
  #refusedToken: AccessToken | undefined

  get isDone(): boolean {
    return this.#state === 'gone' && !this.isInDoubt
  }

  async proceed(): Promise<void> {
    if (this.#state === 'gone') return
    if (this.#state === 'new') return this.#create()
    const roll = this.world.random()
    if (this.#isDisabled) return this.#enable()
    if (roll < 0.35) return this.#getToken()
    if (roll < 0.55) return this.#rotate(0)
    if (roll < 0.75) return this.#rotate(overlapSeconds)
    if (roll < 0.93) return this.#disable()
    return this.#delete()
  }

  #tryToken(secret = this.#secret): Promise<Answer> {
    return this.world.call('/token', {
      form: { grant_type: 'client_credentials' },
      client: { id: this.name, secret },
    })
  }

  async #getToken(): Promise<void> {
    const askedAt = this.world.ledger.tick()
    const { status, body } = await this.#tryToken()
    if (this.expect('the secret is good', status, 200))
      this.#token = { text: body.access_token, askedAt, gotAt: this.world.ledger.tick() }
  }

  /** All tokens so far are refused. */
  #refuseToken(): void {
    this.#refusedToken = this.#token ?? this.#refusedToken
    this.#token = undefined
  }

  async #isThere(): Promise<boolean> {
    const { status } = await this.world.admin(this.#path)
    this.expect('it is there or not', status, 200, 404)
    return status === 200
  }

  async #create(): Promise<void> {
    const send = () => this.world.admin('/admin/clients', { json: { client_id: this.name } })
    const made = ({ body }: Answer) => {
      this.#state = 'there'
      this.#secret = body.client_secret
    }
    // Whoever got no answer asks again, and where it is there already, for another secret.
    const settle = async (): Promise<Outcome> => {
      const answer = await send()
      this.expect('a creation in doubt can be sent again', answer.status, 201, 409)
      if (answer.status === 201) made(answer)
      else made(await this.counted(replacement, () => this.#sendRotation(0)))
      return answer.status === 201 ? 'before' : 'after'
    }
    const answer = await this.write('creation of a client', send, 201, settle)
    if (answer) made(answer)
  }

  async #sendRotation(overlap: number): Promise<Answer> {
    return this.world.admin(`${this.#path}/rotate-secret`, { json: { overlap_seconds: overlap } })
  }

  async #rotate(overlap: number): Promise<void> {
    const rotated = ({ body }: Answer, overlap: number) => {
      const former = this.#secret
      this.#secret = body.client_secret
      if (overlap > 0) {
        this.#refusedSecret = this.#formerSecret ?? this.#refusedSecret
        this.#formerSecret = former
      } else {
        this.#refusedSecret = former
        this.#formerSecret = undefined
        this.#refuseToken()
      }
    }
    // The secret is in the answer that did not come: another is needed.
    const settle = async (): Promise<Outcome> => {
      const isGood = (await this.#tryToken()).status === 200
      if (overlap > 0) this.expect('the secret before is good for the overlap', isGood, true)
      const answer = await this.counted(replacement, () => this.#sendRotation(0))
      if (this.expect('a rotation in doubt can be sent again', answer.status, 200)) rotated(answer, 0)
      return overlap > 0 ? 'either' : isGood ? 'before' : 'after'
    }
    const what = overlap > 0 ? rotation : replacement
    const answer = await this.write(what, () => this.#sendRotation(overlap), 200, settle)
    if (answer) rotated(answer, overlap)
  }

  /** Whether its secret and its access token are taken, which have to agree. */
  async #isEnabled(): Promise<boolean> {
    const isGood = (await this.#tryToken()).status === 200
    if (this.#token && !this.world.leaks.mayBeRefused(this.#token))
      this.expect('a client and its access tokens are refused together', await this.#isTaken(this.#token), isGood)
    return isGood
  }

  async #isTaken({ text }: AccessToken): Promise<boolean> {
    return (await this.world.call('/verify', { token: text })).status === 204
  }

  async #disable(): Promise<void> {
    const send = () => this.world.admin(`${this.#path}/disable`, { method: 'POST' })
    const disabled = () => {
      this.#isDisabled = true
      this.#refuseToken()
    }
    const settle = async (): Promise<Outcome> => {
      if (await this.#isEnabled()) return 'before'
      disabled()
      return 'after'
    }
    if (await this.write('disabling of a client', send, 204, settle)) disabled()
  }

  async #enable(): Promise<void> {
    const send = () => this.world.admin(`${this.#path}/enable`, { method: 'POST' })
    const settle = async (): Promise<Outcome> => {
      this.#isDisabled = (await this.#tryToken()).status !== 200
      return this.#isDisabled ? 'before' : 'after'
    }
    if (await this.write('enabling of a client', send, 204, settle)) this.#isDisabled = false
  }

  async #delete(): Promise<void> {
    const send = () => this.world.admin(this.#path, { method: 'DELETE' })
    const gone = () => {
      this.#state = 'gone'
      this.#refuseToken()
    }
    const settle = async (): Promise<Outcome> => {
      const isThere = await this.#isThere()
      this.expect('a client is gone with its secret', await this.#isEnabled(), isThere)
      if (!isThere) gone()
      return isThere ? 'before' : 'after'
    }
    if (await this.write('deletion of a client', send, 204, settle)) gone()
  }

  async check(): Promise<void> {
    if (this.#state === 'new') return
    const isThere = this.#state === 'there'
    this.expect('it is there', await this.#isThere(), isThere)
    if (this.#refusedToken)
      this.expect('a refused access token stays refused', await this.#isTaken(this.#refusedToken), false)
    // Wrong secrets first: a right one ends the count of failures.
    if (this.#refusedSecret !== undefined)
      this.expect('a replaced secret stays refused', (await this.#tryToken(this.#refusedSecret)).status, 401, 429)
    if (!isThere || this.#isDisabled) {
      this.expect('its secret is refused', (await this.#tryToken()).status, 401, 429)
      return
    }
    if (this.#formerSecret !== undefined)
      this.expect('the secret before is good', (await this.#tryToken(this.#formerSecret)).status, 200)
    if (this.#token && this.world.leaks.isRefused(this.#token)) this.#refuseToken()
    if (this.#token && !this.world.leaks.mayBeRefused(this.#token))
      this.expect('its access token is good', await this.#isTaken(this.#token), true)
    await this.#getToken()
  }

  async checkStored(store: Store): Promise<void> {
    if (this.#state === 'new') return
    const { rows } = await store.listAudit({ client: this.name }, { limit: 10_000 })
    const told = (event: string) => rows.filter((row) => row.event === event).length
    this.expect('rows of its creation', told('client.created'), 1)
    this.expect('rows of its deletion', told('client.deleted'), this.#state === 'gone' ? 1 : 0)
    this.expectRows(rows, 'client.secret_rotated', replacement, rotation)
    this.expectRows(rows, 'client.disabled', 'disabling of a client')
    this.expectRows(rows, 'client.enabled', 'enabling of a client')
  }
}
