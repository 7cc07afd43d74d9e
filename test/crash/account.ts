import { randomBytes } from 'node:crypto'
import type { Store } from '../../stores/store.ts'
import { claimsOf } from '../support/basics.ts'
import type { Answer } from './call.ts'
import { type AccessToken, Entity } from './entity.ts'
import type { Outcome } from './ledger.ts'

/** A session as its owner knows it. */
interface Session {
  id: string
  refresh: string
  /** refresh tokens that were traded in, the last one first */
  spent: string[]
  /** of the clock, in milliseconds */
  rotatedAt: number
  access: AccessToken
}

/** More are logged out of, and of more that have ended the oldest are forgotten. */
const sessionsAtMost = 4
const endedAtMost = 6

const newPassword = () => `horse ${randomBytes(12).toString('base64url')}`

/** Somebody with an account: signs up, logs in, refreshes, and ends sessions in each way that there is. */
export class Account extends Entity {
  readonly name = `user-${this.world.next()}-${randomBytes(4).toString('hex')}`
  #state: 'new' | 'there' | 'gone' = 'new'
  #password = newPassword()
  #formerPassword: string | undefined
  /** how often it was changed */
  #passwordChanges = 0
  #live: Session[] = []
  /** sessions that have ended: nothing of them may be taken */
  #ended: Session[] = []
  /** access tokens that were revoked by themselves: their session goes on */
  #revoked: AccessToken[] = []

  get isDone(): boolean {
    return this.#state === 'gone' && !this.isInDoubt
  }

  async proceed(): Promise<void> {
    if (this.#state === 'gone') return
    if (this.#state === 'new') return this.#signUp()
    const session = this.any(this.#live)
    if (!session) return this.#logIn()
    if (this.#mayBeRefused(session.access)) return this.#refresh(session)
    const roll = this.world.random()
    if (roll < 0.45) return this.#refresh(session)
    if (roll < 0.55) return this.#refreshTwice(session)
    if (roll < 0.7) return this.#live.length < sessionsAtMost ? this.#logIn() : this.#logOut(session)
    if (roll < 0.77) return this.#logOut(session)
    if (roll < 0.82) return this.#revokeRefreshToken(session)
    if (roll < 0.87) return this.#revokeAccessToken(session)
    if (roll < 0.91) return this.#endFrom(session, this.any(this.#live))
    if (roll < 0.93) return this.#endAll(session)
    if (roll < 0.98) return this.#changePassword(session)
    return this.#delete(session)
  }

  async #signUp(): Promise<void> {
    const send = () => this.world.call('/signup', { json: { username: this.name, password: this.#password } })
    // Who got no answer signs up again: either the name is theirs already, or it is now.
    const settle = async (): Promise<Outcome> => {
      const { status } = await send()
      this.expect('a sign-up in doubt can be sent again', status, 201, 409)
      this.#state = 'there'
      this.expect('and then the password is the one that was sent', (await this.#tryLogIn()).status, 200)
      return status === 201 ? 'before' : 'after'
    }
    if (await this.write('signup', send, 201, settle)) this.#state = 'there'
  }

  #tryLogIn(password = this.#password): Promise<Answer> {
    return this.world.call('/token', { form: { grant_type: 'password', username: this.name, password } })
  }

  async #logIn(): Promise<void> {
    const askedAt = this.world.ledger.tick()
    const answer = await this.write(
      'login',
      () => this.#tryLogIn(),
      200,
      async () => 'either',
    )
    if (answer) this.#live.push(this.#sessionOf(answer, askedAt))
  }

  #sessionOf({ body }: Answer, askedAt: number): Session {
    const access = { text: body.access_token, askedAt, gotAt: this.world.ledger.tick() }
    const { sid } = claimsOf(access.text)
    return { id: sid as string, refresh: body.refresh_token, spent: [], rotatedAt: Date.now(), access }
  }

  #present(token: string): Promise<Answer> {
    return this.world.call('/refresh', { json: { refresh_token: token } })
  }

  #rotated(session: Session, { body }: Answer, askedAt: number): void {
    const isNext = body.refresh_token !== session.refresh
    this.expect('a refresh gives another token', isNext, true)
    session.spent = [session.refresh, ...session.spent].slice(0, 3)
    session.refresh = body.refresh_token
    session.rotatedAt = Date.now()
    session.access = { text: body.access_token, askedAt, gotAt: this.world.ledger.tick() }
  }

  /** Who got no answer presents the same token again, and goes on. */
  #settleRefresh(session: Session): () => Promise<Outcome> {
    const sentAt = Date.now()
    return async () => {
      const askedAt = this.world.ledger.tick()
      const answer = await this.#present(session.refresh)
      const isLate = Date.now() - sentAt > this.world.graceMs
      this.expect('a refresh in doubt can be sent again', answer.status, 200, ...(isLate ? [400] : []))
      if (answer.status === 200) this.#rotated(session, answer, askedAt)
      else this.#end(session)
      return 'either'
    }
  }

  async #refresh(session: Session): Promise<void> {
    const askedAt = this.world.ledger.tick()
    const settle = this.#settleRefresh(session)
    const answer = await this.write('refresh', () => this.#present(session.refresh), 200, settle)
    if (answer) this.#rotated(session, answer, askedAt)
  }

  /** Two tabs with one token. */
  async #refreshTwice(session: Session): Promise<void> {
    const askedAt = this.world.ledger.tick()
    const send = async () => {
      const sent = await Promise.allSettled([this.#present(session.refresh), this.#present(session.refresh)])
      const answers = sent.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
      // One answer is enough to go on.
      if (!answers[0]) throw (sent[0] as PromiseRejectedResult).reason
      const successors = new Set(answers.map(({ body }) => body?.refresh_token))
      this.expect('two refreshes at once have one successor', successors.size, 1)
      return answers[0]
    }
    const answer = await this.write('refresh', send, 200, this.#settleRefresh(session))
    if (answer) this.#rotated(session, answer, askedAt)
  }

  #end(...sessions: Session[]): void {
    this.#live = this.#live.filter((session) => !sessions.includes(session))
    this.#ended = [...sessions, ...this.#ended].slice(0, endedAtMost)
  }

  /** Whether a session goes on, by both of its tokens, which have to agree. */
  async #goesOn(session: Session): Promise<boolean> {
    const isTaken = await this.#isTaken(session.access)
    const askedAt = this.world.ledger.tick()
    const answer = await this.#present(session.refresh)
    this.expect('a refresh token is taken or not', answer.status, 200, 400)
    const goesOn = answer.status === 200
    if (!this.#mayBeRefused(session.access))
      this.expect(`session ${session.id} has ended with its access token or not at all`, isTaken, goesOn)
    if (goesOn) this.#rotated(session, answer, askedAt)
    return goesOn
  }

  #mayBeRefused(token: AccessToken): boolean {
    return this.#revoked.includes(token) || this.world.leaks.mayBeRefused(token)
  }

  async #isTaken({ text }: AccessToken): Promise<boolean> {
    const { status } = await this.world.call('/verify', { token: text })
    this.expect('an access token is taken or not', status, 204, 401)
    return status === 204
  }

  /** Ends sessions by a write that does so for all of them, or for none. */
  async #endBy(
    by: Session,
    what: string,
    ended: Session[],
    status: number,
    send: (token: string) => Promise<Answer>,
  ): Promise<void> {
    const settle = async (): Promise<Outcome> => {
      const outcomes = new Set<boolean>()
      for (const session of ended) outcomes.add(await this.#goesOn(session))
      this.expect(`${what} in doubt is done for all sessions or for none`, outcomes.size, 1)
      if (outcomes.has(true)) return 'before'
      this.#end(...ended)
      return 'after'
    }
    if (await this.write(what, () => send(by.access.text), status, settle, by.access)) this.#end(...ended)
  }

  #logOut(session: Session): Promise<void> {
    return this.#endBy(session, 'logout', [session], 204, (token) =>
      this.world.call('/logout', { method: 'POST', token }),
    )
  }

  #revokeRefreshToken(session: Session): Promise<void> {
    return this.#endBy(session, 'revocation of a refresh token', [session], 200, () =>
      this.world.call('/revoke', { form: { token: session.refresh } }),
    )
  }

  #endFrom(session: Session, other: Session): Promise<void> {
    return this.#endBy(session, 'end of a session', [other], 204, (token) =>
      this.world.call(`/users/me/sessions/${other.id}`, { method: 'DELETE', token }),
    )
  }

  #endAll(session: Session): Promise<void> {
    return this.#endBy(session, 'end of all sessions', [...this.#live], 204, (token) =>
      this.world.call('/users/me/sessions', { method: 'DELETE', token }),
    )
  }

  async #revokeAccessToken(session: Session): Promise<void> {
    const { access } = session
    const send = () => this.world.call('/revoke', { form: { token: access.text } })
    const settle = async (): Promise<Outcome> => {
      const isRevoked = !(await this.#isTaken(access))
      if (isRevoked) this.#revoked.unshift(access)
      return isRevoked ? 'after' : 'before'
    }
    if (!(await this.write('revocation of an access token', send, 200, settle))) return
    this.#revoked = [access, ...this.#revoked].slice(0, endedAtMost)
    await this.#refresh(session)
  }

  async #changePassword(kept: Session): Promise<void> {
    const next = newPassword()
    const change = { current_password: this.#password, new_password: next }
    const send = () => this.world.call('/users/me/password', { json: change, token: kept.access.text })
    const others = this.#live.filter((session) => session !== kept)
    const changed = () => {
      this.#formerPassword = this.#password
      this.#passwordChanges += 1
      this.#password = next
      this.#end(...others)
    }
    const settle = async (): Promise<Outcome> => {
      const isChanged = (await this.#tryLogIn(next)).status === 200
      this.expect('one of two passwords is good', (await this.#tryLogIn()).status, isChanged ? 400 : 200)
      for (const session of others)
        this.expect('the other sessions end with the password', await this.#goesOn(session), !isChanged)
      this.expect('the session that changed it goes on', await this.#goesOn(kept), true)
      if (isChanged) changed()
      return isChanged ? 'after' : 'before'
    }
    if (await this.write('password change', send, 204, settle, kept.access)) changed()
  }

  async #delete(by: Session): Promise<void> {
    const json = { password: this.#password }
    const send = () => this.world.call('/users/me', { method: 'DELETE', json, token: by.access.text })
    const gone = () => {
      this.#state = 'gone'
      this.#end(...this.#live)
    }
    const settle = async (): Promise<Outcome> => {
      const isThere = (await this.#tryLogIn()).status === 200
      for (const session of [...this.#live])
        this.expect('sessions go with the account', await this.#goesOn(session), isThere)
      if (!isThere) gone()
      return isThere ? 'before' : 'after'
    }
    if (await this.write('deletion of an account', send, 204, settle, by.access)) gone()
  }

  async check(): Promise<void> {
    if (this.#state === 'new') return
    if (this.#state === 'gone')
      this.expect('a deleted account stays deleted', (await this.#tryLogIn()).status, 400, 429)
    else await this.#checkPasswords()
    for (const session of this.#ended) await this.#checkEnded(session)
    for (const token of this.#revoked)
      this.expect('a revoked access token stays revoked', await this.#isTaken(token), false)
    for (const session of [...this.#live]) await this.#checkLive(session)
  }

  /** Its audit rows, and the counters of its sessions: over HTTP a token that is ahead is taken. */
  async checkStored(store: Store): Promise<void> {
    const user = await store.findUserByName(this.name)
    const { rows } = user ? await store.listAudit({ user: user.id }, { limit: 10_000 }) : { rows: [] }
    const told = (event: string, session?: string) =>
      rows.filter((row) => row.event === event && (session === undefined || row.session === session)).length
    this.expect('rows of its creation', told('user.created'), user ? 1 : 0)
    this.expect('rows of new passwords', told('password.changed'), user ? this.#passwordChanges : 0)
    for (const { id, refresh } of this.#live) {
      this.expect(`rows of the login to ${id}`, told('login.succeeded', id), 1)
      this.expect(`rows of an end of ${id}`, told('session.ended', id), 0)
      const counter = Buffer.from(refresh.slice('lkr_'.length), 'base64url').readUIntBE(16, 6)
      this.expect(`rotations of session ${id}`, (await store.findSession(id))?.counter, counter)
    }
  }

  async #checkPasswords(): Promise<void> {
    if (this.#formerPassword !== undefined)
      this.expect('the old password is refused', (await this.#tryLogIn(this.#formerPassword)).status, 400)
    const askedAt = this.world.ledger.tick()
    const answer = await this.#tryLogIn()
    if (!this.expect('the password is good', answer.status, 200)) return
    const session = this.#sessionOf(answer, askedAt)
    if (this.#live.length < sessionsAtMost) this.#live.push(session)
    else await this.#logOut(session)
  }

  async #checkEnded({ id, refresh, access }: Session): Promise<void> {
    this.expect(`the access token of session ${id} stays refused`, await this.#isTaken(access), false)
    this.expect(`session ${id} stays ended`, (await this.#present(refresh)).status, 400)
  }

  async #checkLive(session: Session): Promise<void> {
    const { access, spent } = session
    const isRevoked = this.#revoked.includes(access) || this.world.leaks.isRefused(access)
    const isTaken = await this.#isTaken(access)
    if (isRevoked || !this.#mayBeRefused(access))
      this.expect(`the access token of session ${session.id}`, isTaken, !isRevoked)
    // By a spent token, whose session it ends. One that was spent before the last one has no grace: if the store had
    // lost the last rotation, it would be taken.
    const isOver = Date.now() - session.rotatedAt > this.world.graceMs
    const thief = isOver ? spent[0] : spent[1]
    if (thief !== undefined && this.chance(0.3)) {
      this.expect(`a spent token of session ${session.id} stays spent`, (await this.#present(thief)).status, 400)
      this.#end(session)
      return this.#checkEnded(session)
    }
    const before = session.refresh
    if (!this.expect(`session ${session.id} goes on`, await this.#goesOn(session), true)) return
    const again = await this.#present(before)
    this.expect('within the grace the same successor comes again', again.body?.refresh_token, session.refresh)
  }
}
