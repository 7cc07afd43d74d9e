import { createHash, randomBytes } from 'node:crypto'
import type { Store } from '../../stores/store.ts'
import { password } from '../support/basics.ts'
import { formsOf } from '../support/browser.ts'
import type { Answer } from './call.ts'
import { Entity, type World } from './entity.ts'
import type { Outcome } from './ledger.ts'

/** An app without a secret, declared in AUTH_CLIENTS_FILE, that asks for no consent. */
export const browserApp = {
  client_id: 'browser-app',
  type: 'public',
  redirect_uris: ['https://app.example/callback'],
  consent: 'implicit',
}

/** The session of an app. */
interface Child {
  refresh: string
  rotatedAt: number
  /** whether it outlives the browser's */
  isOffline: boolean
}

/** A browser that is signed in, and the apps that were opened from it. */
interface SignedIn {
  browser: Browser
  id: string
  children: Child[]
}

const childrenAtMost = 4
const endedAtMost = 6
const [signingIn, signingOut] = ['sign-in in a browser', 'sign-out of a browser']

/** Cookies, and pages. */
class Browser {
  readonly #jar = new Map<string, string>()
  readonly #call: World['call']

  constructor(call: World['call']) {
    this.#call = call
  }

  async open(path: string, form?: Record<string, string>): Promise<Answer> {
    const cookie = [...this.#jar].map((pair) => pair.join('=')).join('; ')
    const answer = await this.#call(path, { cookie, ...(form && { form }) })
    for (const [, name = '', value = ''] of answer.cookies.map((text) => /^([^=]+)=([^;]*)/.exec(text) ?? [])) {
      if (value === '') this.#jar.delete(name)
      else this.#jar.set(name, value)
    }
    return answer
  }

  /** Sends the one form of a page that has a member. */
  async submit(path: string, values: Record<string, string>): Promise<Answer> {
    const { text } = await this.open(path)
    const form = formsOf({ body: text }).find(({ names, buttons }) =>
      Object.keys(values).every((name) => names.includes(name) || buttons.some((button) => button.name === name)),
    )
    return this.open(path, { ...form?.fields, ...values })
  }

  /** The id of the browser session, which its cookie begins with. */
  get sessionId(): string | undefined {
    const hex = Buffer.from(this.#jar.get('__Host-latchkey') ?? '', 'base64url')
      .subarray(0, 16)
      .toString('hex')
    return hex === '' ? undefined : hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
  }

  async isSignedIn(): Promise<boolean> {
    return (await this.open('/account')).status === 200
  }
}

/** Somebody who signs in in a browser, to apps from there, and out of all of it. */
export class BrowserUser extends Entity {
  readonly name = `browser-${this.world.next()}-${randomBytes(4).toString('hex')}`
  readonly isDone = false
  #id: string | undefined
  #live: SignedIn | undefined
  /** sessions of apps that outlive their browser's */
  #offline: Child[] = []
  #ended: Child[] = []
  #signedOut: SignedIn[] = []

  async proceed(): Promise<void> {
    if (this.#id === undefined) return this.#signUp()
    const live = this.#live
    if (!live) return this.#signIn()
    const roll = this.world.random()
    if (roll < 0.1) return this.#signOut(live)
    const child = this.any(live.children)
    if (!child || (roll < 0.4 && live.children.length < childrenAtMost)) return this.#openApp(live)
    return this.#refresh(child)
  }

  async #signUp(): Promise<void> {
    const send = () => this.world.call('/signup', { json: { username: this.name, password } })
    const settle = async (): Promise<Outcome> => {
      const { status } = await send()
      this.expect('a sign-up in doubt can be sent again', status, 201, 409)
      this.#id = this.name
      return status === 201 ? 'before' : 'after'
    }
    if (await this.write('signup', send, 201, settle)) this.#id = this.name
  }

  async #signIn(): Promise<void> {
    const browser = new Browser(this.world.call)
    const send = () => browser.submit('/sign-in', { username: this.name, password })
    // Where no answer came, nobody has the cookie.
    if (!(await this.write(signingIn, send, 303, async () => 'either'))) return
    const id = browser.sessionId
    if (this.expect('a sign-in gives a cookie', id !== undefined, true))
      this.#live = { browser, id: id as string, children: [] }
  }

  async #openApp(live: SignedIn): Promise<void> {
    const isOffline = this.chance(0.3)
    const verifier = randomBytes(32).toString('base64url')
    const [redirect_uri = ''] = browserApp.redirect_uris
    const { client_id } = browserApp
    const query = new URLSearchParams({
      ...{ response_type: 'code', client_id, redirect_uri, scope: isOffline ? 'profile offline_access' : 'profile' },
      code_challenge: createHash('sha256').update(verifier).digest('base64url'),
      code_challenge_method: 'S256',
    })
    const { status, location } = await live.browser.open(`/authorize?${query}`)
    const code = location && new URL(location, 'http://auth.example').searchParams.get('code')
    if (!this.expect(`${status} to ${location} has a code`, typeof code, 'string') || !code) return
    const form = { grant_type: 'authorization_code', code, redirect_uri, code_verifier: verifier, client_id }
    const send = () => this.world.call('/token', { form })
    const isOpen = ({ body }: Answer) =>
      live.children.push({ refresh: body.refresh_token, rotatedAt: Date.now(), isOffline })
    // A second use ends the session that the first has given.
    const settle = async (): Promise<Outcome> => {
      const answer = await send()
      this.expect('a code in doubt is traded in or not', answer.status, 200, 400)
      if (answer.status === 200) isOpen(answer)
      return answer.status === 200 ? 'before' : 'after'
    }
    const answer = await this.write("exchange of a browser's code", send, 200, settle)
    if (!answer) return
    isOpen(answer)
    if (!this.chance(0.2)) return
    const child = live.children.pop() as Child
    // In doubt it may be ended or not, and nothing is known of it any more.
    const again = await this.write('second use of a code', send, 400, async () => 'either')
    if (again) this.#ended = [child, ...this.#ended].slice(0, endedAtMost)
  }

  #present = ({ refresh }: Child) =>
    this.world.call('/token', {
      form: { grant_type: 'refresh_token', refresh_token: refresh, client_id: browserApp.client_id },
    })

  #rotated(child: Child, { body }: Answer): void {
    child.refresh = body.refresh_token
    child.rotatedAt = Date.now()
  }

  async #refresh(child: Child): Promise<void> {
    const sentAt = Date.now()
    const settle = async (): Promise<Outcome> => {
      const answer = await this.#present(child)
      const isLate = Date.now() - sentAt > this.world.graceMs
      this.expect('a refresh in doubt can be sent again', answer.status, 200, ...(isLate ? [400] : []))
      if (answer.status === 200) this.#rotated(child, answer)
      else this.#forget(child)
      return 'either'
    }
    const answer = await this.write('refresh of an app', () => this.#present(child), 200, settle)
    if (answer) this.#rotated(child, answer)
  }

  #forget(child: Child): void {
    if (this.#live) this.#live.children = this.#live.children.filter((one) => one !== child)
  }

  /** Whether the session of an app goes on; the refresh is what asks. */
  async #goesOn(child: Child): Promise<boolean> {
    const answer = await this.#present(child)
    this.expect('the refresh token of an app is taken or not', answer.status, 200, 400)
    if (answer.status === 200) this.#rotated(child, answer)
    return answer.status === 200
  }

  async #signOut(live: SignedIn): Promise<void> {
    const send = () => live.browser.submit('/account/sessions', { browser: live.id })
    const isOut = () => {
      this.#live = undefined
      this.#signedOut = [live, ...this.#signedOut].slice(0, endedAtMost)
      this.#offline = [...live.children.filter(({ isOffline }) => isOffline), ...this.#offline].slice(0, endedAtMost)
      this.#ended = [...live.children.filter(({ isOffline }) => !isOffline), ...this.#ended].slice(0, endedAtMost)
    }
    const settle = async (): Promise<Outcome> => {
      const isIn = await live.browser.isSignedIn()
      for (const child of live.children)
        this.expect('apps end with the browser, or not at all', await this.#goesOn(child), isIn || child.isOffline)
      if (!isIn) isOut()
      return isIn ? 'before' : 'after'
    }
    if (await this.write(signingOut, send, 303, settle)) isOut()
  }

  async check(): Promise<void> {
    if (this.#live) {
      this.expect('a browser stays signed in', await this.#live.browser.isSignedIn(), true)
      for (const child of this.#live.children) this.expect('and its apps', await this.#goesOn(child), true)
    }
    for (const { browser } of this.#signedOut)
      this.expect('a browser stays signed out', await browser.isSignedIn(), false)
    for (const child of this.#ended) this.expect('an app stays signed out', await this.#goesOn(child), false)
    for (const child of this.#offline) this.expect('offline_access lasts', await this.#goesOn(child), true)
  }

  async checkStored(store: Store): Promise<void> {
    if (this.#id === undefined) return
    const user = await store.findUserByName(this.name)
    const { rows } = user ? await store.listAudit({ user: user.id }, { limit: 10_000 }) : { rows: [] }
    this.expectRows(rows, 'browser.signed_in', signingIn as string)
    this.expectRows(rows, 'browser.signed_out', signingOut as string)
    if (this.#live) {
      this.expect('the browser session', (await store.findBrowserSession(this.#live.id))?.userId, user?.id)
      const children = await store.listChildren(this.#live.id)
      this.expect(`${children.length} sessions of apps`, children.length >= this.#live.children.length, true)
    }
    for (const { id } of this.#signedOut) {
      this.expect('a browser session that was ended', await store.findBrowserSession(id), undefined)
      const left = (await store.listChildren(id)).filter(({ scope }) => !scope.includes('offline_access'))
      this.expect('sessions of apps that it has left behind', left.length, 0)
    }
  }
}
