import type { Store } from '../../stores/store.ts'
import type { AccessToken, Leaks } from './entity.ts'
import { Entity } from './entity.ts'
import type { Outcome } from './ledger.ts'

type KeyRows = Record<'key.rotated' | 'key.withdrawn', unknown[]>

/** The signing keys: there is one set of them. Rotated now and then, and seldom as after a leak, which refuses all access tokens. */
export class SigningKeys extends Entity {
  readonly name = 'the signing keys'
  readonly isDone = false
  #published = new Set<string>()
  #withdrawn = new Set<string>()
  /** of each audit row of an event: which key it is about */
  readonly #rows: KeyRows = { 'key.rotated': [], 'key.withdrawn': [] }
  /** when these were read last, in milliseconds since the epoch */
  #readAt = 0
  /** of a rotation after a leak that was answered, and of one that may have been carried out */
  #lastLeak = { beganAt: 0, mayHaveEndedAt: 0 }

  readonly leaks: Leaks = {
    isRefused: ({ gotAt }: AccessToken) => gotAt < this.#lastLeak.beganAt,
    mayBeRefused: ({ askedAt }: AccessToken) => askedAt < this.#lastLeak.mayHaveEndedAt,
  }

  async proceed(): Promise<void> {
    if (this.chance(0.9)) return
    return this.chance(0.5) ? this.#rotateAfterLeak() : this.#rotate()
  }

  async #rotate(): Promise<void> {
    const send = () => this.world.admin('/admin/keys/rotate', { method: 'POST' })
    const settle = async (): Promise<Outcome> => {
      const { status, body } = await send()
      if (this.expect('a rotation in doubt can be sent again', status, 200)) this.#published.add(body.kid)
      return 'either'
    }
    const answer = await this.write('rotation of the signing key', send, 200, settle)
    if (answer) this.#published.add(answer.body.kid)
  }

  async #rotateAfterLeak(): Promise<void> {
    const { ledger } = this.world
    const beganAt = ledger.tick()
    const before = await this.#listed()
    this.#lastLeak.mayHaveEndedAt = Number.POSITIVE_INFINITY
    const send = () => this.world.admin('/admin/keys/rotate', { json: { leaked: true } })
    const rotated = (kid: string) => {
      for (const old of [...before, ...this.#published]) if (old !== kid) this.#withdrawn.add(old)
      this.#published = new Set([kid])
      this.#lastLeak = { beganAt, mayHaveEndedAt: ledger.tick() }
    }
    const settle = async (): Promise<Outcome> => {
      const now = await this.#listed()
      const left = before.filter((kid) => now.includes(kid)).length
      this.expect('keys are withdrawn together', left === 0 || left === before.length, true)
      for (const kid of now) if (!before.includes(kid)) this.#published.add(kid)
      const { status, body } = await send()
      if (this.expect('a rotation in doubt can be sent again', status, 200)) rotated(body.kid)
      return left === 0 ? 'after' : 'before'
    }
    const answer = await this.write('rotation of the signing key after a leak', send, 200, settle)
    if (answer) rotated(answer.body.kid)
  }

  async #listed(): Promise<string[]> {
    const { body } = await this.world.call('/.well-known/jwks.json')
    return body.keys.map(({ kid }: { kid: string }) => kid)
  }

  async check(): Promise<void> {
    const kids = await this.#listed()
    const signing = await this.world.admin('/admin/keys')
    this.expect('the keys published are those in the store', signing.body.keys.length, kids.length)
    for (const kid of this.#published) this.expect(`key ${kid} is published`, kids.includes(kid), true)
    for (const kid of this.#withdrawn) this.expect(`key ${kid} stays withdrawn`, kids.includes(kid), false)
  }

  async checkStored(store: Store): Promise<void> {
    const since = this.#readAt
    this.#readAt = Date.now()
    for (const [event, rows] of Object.entries(this.#rows)) {
      for (let after: string | undefined, isFirst = true; isFirst || after; isFirst = false) {
        const page = await store.listAudit({ event, since }, { limit: 10_000, ...(after && { after }) })
        for (const { detail } of page.rows) rows.push(detail?.['kid'])
        after = page.next
      }
    }
    const told = (event: keyof KeyRows, kid: string) => this.#rows[event].filter((of) => of === kid).length
    for (const kid of this.#published) this.expect(`rows of the making of key ${kid}`, told('key.rotated', kid), 1)
    for (const kid of this.#withdrawn) this.expect(`rows of the end of key ${kid}`, told('key.withdrawn', kid), 1)
  }
}
