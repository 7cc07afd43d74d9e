import { randomBytes } from 'node:crypto'
import { TOTP } from 'otpauth'
import { twoFactors } from '../../domain/authentication.ts'
import type { Factor } from '../../domain/factor.ts'
import { hashRecoveryCode } from '../../plugins/factors/recovery-codes.ts'
import type { Store } from '../../stores/store.ts'
import { claimsOf, password } from '../support/basics.ts'
import type { Answer } from './call.ts'
import { type AccessToken, Entity } from './entity.ts'
import type { Outcome } from './ledger.ts'

const stepMs = 30_000
/** A tenth makes the account wait; a right factor begins the count anew. */
const missesAtMost = 6
/** Changes of factors need a sign-in of at most five minutes. */
const freshForMs = 200_000

const codeOf = (secret: string, step: number) => new TOTP({ secret }).generate({ timestamp: step * stepMs })
const thisStep = () => Math.floor(Date.now() / stepMs)

/** An authenticator app, as its owner has it. */
interface App {
  id: string
  secret: string
  /** of the last code that is known to be spent */
  spent: number
  /** of the last code that may be */
  sent: number
}

/** Somebody with a second factor: adds it, signs in by its codes and by recovery codes, and removes it in the end. */
export class SecondFactor extends Entity {
  readonly name = `factor-${this.world.next()}-${randomBytes(4).toString('hex')}`
  isDone = false
  #id: string | undefined
  #app: App | undefined
  /** undefined where the set is not known: its making was not answered */
  #codes: { left: string[]; spent: string[] } | undefined
  #misses = 0
  /** of a sign-in with the factor, and when that was */
  #access: { token: AccessToken; at: number } | undefined

  async proceed(): Promise<void> {
    if (this.#id === undefined) return this.#signUp()
    if (!this.#app) return this.#enrol()
    if (!this.#access || this.#access.at < Date.now() - freshForMs || this.#mayBeRefused()) return this.#signIn()
    if (!this.#codes?.left.length) return this.#makeCodes(this.#access.token)
    return this.chance(0.02) ? this.#remove(this.#app, this.#access.token) : this.#signIn()
  }

  #mayBeRefused = () => this.#access !== undefined && this.world.leaks.mayBeRefused(this.#access.token)
  #tokenOf({ body }: Answer, askedAt: number): AccessToken {
    return { text: body.access_token, askedAt, gotAt: this.world.ledger.tick() }
  }
  #tryPassword = () => this.world.call('/token', { form: { grant_type: 'password', username: this.name, password } })

  async #signUp(): Promise<void> {
    const send = () => this.world.call('/signup', { json: { username: this.name, password } })
    const settle = async (): Promise<Outcome> => {
      const { status } = await send()
      this.expect('a sign-up in doubt can be sent again', status, 201, 409)
      await this.#learnId()
      return status === 201 ? 'before' : 'after'
    }
    const answer = await this.write('signup', send, 201, settle)
    if (answer) this.#id = answer.body.id
  }

  async #learnId(): Promise<void> {
    this.#id = claimsOf((await this.#tryPassword()).body.access_token).sub as string
  }

  async #enrol(): Promise<void> {
    const askedAt = this.world.ledger.tick()
    const signedIn = await this.#tryPassword()
    if (!this.expect('a password is enough without a factor', signedIn.status, 200)) return
    const token = this.#tokenOf(signedIn, askedAt)
    const begun = await this.world.call('/users/me/factors/totp', { json: {}, token: token.text })
    if (begun.status === 401 && this.world.leaks.mayBeRefused(token)) return
    if (!this.expect('an authenticator app is begun', begun.status, 201)) return
    const { id, secret } = begun.body
    const step = thisStep()
    const send = () =>
      this.world.call(`/users/me/factors/totp/${id}/confirm`, {
        ...{ json: { code: codeOf(secret, step) }, token: token.text },
      })
    const isEnrolled = () => {
      this.#app = { id, secret, spent: step, sent: step }
      this.#access = { token, at: Date.now() }
    }
    const settle = async (): Promise<Outcome> => {
      const { status } = await this.#tryPassword()
      this.expect('with a factor a password is not enough', status, 200, 403)
      if (status === 403) isEnrolled()
      return status === 403 ? 'after' : 'before'
    }
    if (await this.write('confirmation of an authenticator app', send, 204, settle, token)) isEnrolled()
  }

  async #makeCodes(token: AccessToken): Promise<void> {
    const send = () => this.world.call('/users/me/factors/recovery-codes', { json: {}, token: token.text })
    const settle = async (): Promise<Outcome> => {
      this.#codes = undefined
      return 'either'
    }
    const answer = await this.write('making of recovery codes', send, 201, settle, token)
    if (answer) this.#codes = { left: answer.body.codes, spent: [] }
  }

  /** Shows a password and then a code, in an `auth_session` of its own. */
  async #show(code: { otp: string } | { recovery_code: string }): Promise<Answer> {
    const { status, body } = await this.world.call('/challenge', { form: { username: this.name, password } })
    this.expect('a password is answered by what is needed too', status, 400)
    this.expect('which is a factor', body.error, 'insufficient_authorization')
    return this.world.call('/challenge', { form: { auth_session: body.auth_session, ...code } })
  }

  async #signIn(): Promise<void> {
    const app = this.#app as App
    const step = Math.max(app.sent + 1, thisStep())
    const code = this.#codes?.left[0]
    if (step <= thisStep() + 1) return this.#spendStep(app, step)
    if (code !== undefined) return this.#spendCode(code)
  }

  async #spendStep(app: App, step: number): Promise<void> {
    const send = () => this.#show({ otp: codeOf(app.secret, step) })
    const settle = async (): Promise<Outcome> => {
      const { status } = await send()
      // Its time may be over.
      this.expect('a code in doubt is good or spent', status, 200, 400)
      return this.#settled(status, () => {
        app.spent = step
      })
    }
    app.sent = step
    const answer = await this.write('spending of a code', send, 200, settle)
    if (!answer) return
    app.spent = step
    await this.#exchange(answer)
  }

  async #spendCode(code: string): Promise<void> {
    const codes = this.#codes as { left: string[]; spent: string[] }
    codes.left = codes.left.filter((one) => one !== code)
    const send = () => this.#show({ recovery_code: code })
    const isSpent = () => codes.spent.push(code)
    const settle = async (): Promise<Outcome> => {
      const { status } = await send()
      this.expect('a recovery code in doubt is good or spent', status, 200, 400)
      isSpent()
      return this.#settled(status, () => {})
    }
    const answer = await this.write('spending of a recovery code', send, 200, settle)
    if (!answer) return
    isSpent()
    await this.#exchange(answer)
  }

  #settled(status: number, isRight: () => void): Outcome {
    if (status !== 200) {
      this.#misses += 1
      return 'either'
    }
    this.#misses = 0
    isRight()
    return 'before'
  }

  async #exchange({ body }: Answer): Promise<void> {
    this.#misses = 0
    const askedAt = this.world.ledger.tick()
    const form = { grant_type: 'authorization_code', code: body.authorization_code }
    const send = () => this.world.call('/token', { form })
    const isIn = (answer: Answer) => {
      const token = this.#tokenOf(answer, askedAt)
      this.expect('a sign-in with a factor is of the second level', claimsOf(token.text).acr, twoFactors)
      this.#access = { token, at: Date.now() }
    }
    // A second use ends the session that the first has given.
    const settle = async (): Promise<Outcome> => {
      const answer = await send()
      this.expect('a code in doubt is traded in or not', answer.status, 200, 400)
      if (answer.status === 200) isIn(answer)
      return answer.status === 200 ? 'before' : 'after'
    }
    const answer = await this.write('exchange of a code', send, 200, settle)
    if (answer) isIn(answer)
  }

  async #remove({ id }: App, token: AccessToken): Promise<void> {
    const send = () => this.world.call(`/users/me/factors/${id}`, { method: 'DELETE', token: token.text })
    const isGone = () => {
      this.#app = undefined
      this.isDone = true
    }
    const settle = async (): Promise<Outcome> => {
      const { status } = await this.#tryPassword()
      this.expect('the factor is there or not', status, 200, 403)
      if (status === 200) isGone()
      return status === 200 ? 'after' : 'before'
    }
    if (await this.write('removal of an authenticator app', send, 204, settle, token)) isGone()
  }

  async check(): Promise<void> {
    if (this.#id === undefined) return
    this.expect('whether a password is enough', (await this.#tryPassword()).status, this.#app ? 403 : 200)
    const spentCode = this.#codes?.spent.at(-1)
    if (!this.#app) return
    const { secret, spent } = this.#app
    if (spent >= thisStep() - 1) await this.#checkSpent('a code', { otp: codeOf(secret, spent) })
    if (spentCode !== undefined) await this.#checkSpent('a recovery code', { recovery_code: spentCode })
  }

  async #checkSpent(what: string, code: { otp: string } | { recovery_code: string }): Promise<void> {
    if (this.#misses >= missesAtMost) return
    this.#misses += 1
    const { status, body } = await this.#show(code)
    this.expect(`${what} that is spent stays so`, status, 400)
    this.expect(`${what} that is spent is as a wrong one`, body.error, 'insufficient_authorization')
  }

  async checkStored(store: Store): Promise<void> {
    if (this.#id === undefined) return
    const [user, row] = await Promise.all([store.findUser(this.#id), store.findFactors(this.#id)])
    const find = <Kind extends Factor['kind']>(kind: Kind) =>
      row?.factors.find((factor): factor is Factor & { kind: Kind } => factor.kind === kind)
    const [app, codes] = [find('totp'), find('recovery_code')]
    this.expect('the authenticator app', app?.id, this.#app?.id)
    this.expect('the row of the user says so', user?.hasFactors ?? false, this.#app !== undefined)
    if (this.#app && app) {
      const { spent, sent } = this.#app
      this.expect(`the last step, of ${spent} to ${sent}`, app.step >= spent && app.step <= sent, true)
    }

    const { rows } = await store.listAudit({ user: this.#id }, { limit: 10_000 })
    const newest = rows.map(({ event }) => event).filter((event) => /^recovery_code/.test(event))
    const made = newest.indexOf('recovery_codes.made')
    if (made >= 0) this.expect('each code that was spent has its row', 10 - (codes?.hashes.length ?? 0), made)
    if (!this.#codes) return
    const isLeft = (code: string) => codes?.hashes.includes(hashRecoveryCode(this.#id as string, code)) ?? false
    this.expect('recovery codes that were lost', this.#codes.left.filter((code) => !isLeft(code)).length, 0)
    this.expect('spent ones that are good again', this.#codes.spent.filter(isLeft).length, 0)
  }
}
