import { randomUUID } from 'node:crypto'
import { connect } from 'node:net'
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import t from 'tap'
import { buildApp } from '../../app.ts'
import { type Config, readConfig } from '../../config.ts'
import type { Store } from '../../stores/store.ts'
import { cheapHashing, newDir, password, type Scope } from './basics.ts'
import { keyPairs } from './key-pairs.ts'
import { accessPostgres, type SharedPostgres, startPostgres } from './postgres.ts'

export { cheapHashing, claimsOf, giveEmail, giveRoles, newDir, password, type Scope } from './basics.ts'

/** A clock that tests move; milliseconds since the epoch. */
export interface Clock {
  now: number
  /** time that has passed beside what really has: where it stays, `now` was only set */
  passedMs?: number
}

/** The app that the server runs, on a store of its own, with a clock that the test moves. */
export interface TestApp {
  app: FastifyInstance
  clock: Clock
  config: Config
  /** every line that was logged, parsed */
  logs: Record<string, unknown>[]
  /** closes the app and builds it again on the same data */
  restart(settings?: Record<string, string>): Promise<TestApp>
  /**
   * builds another app on the same data, as a second process or replica would
   *
   * @param clock of its own; the same when not given
   */
  beside(clock?: Clock): Promise<TestApp>
}

/** Where a store keeps its data, as settings. */
type StoreSettings = (t: Scope) => Promise<Record<string, string>>

export const stores: Record<string, StoreSettings> = {
  lmdb: async (t) => ({ AUTH_DATA_DIR: await newDir(t) }),
  pg: async () => ({ DATABASE_URL: await (await sharedPostgres()).createSchema(), AUTH_SECRET: randomUUID() }),
}

let postgres: Promise<SharedPostgres> | undefined

/** The server of the whole run, which `suite.ts` has started; one of this file where it runs by itself. */
export function sharedPostgres(): Promise<SharedPostgres> {
  const url = process.env['LATCHKEY_TEST_POSTGRES']
  postgres ??= url === undefined ? startPostgres(t, ['-c', 'fsync=off']) : Promise.resolve(accessPostgres(url))
  return postgres
}

export type Build = (settings?: Record<string, string>) => Promise<TestApp>

/**
 * Runs a test over every store.
 *
 * @param body gets a `build` that makes the app on a new, empty store of the kind
 */
export function overStores(title: string, body: (t: Test, build: Build) => Promise<unknown>): void {
  for (const [name, storeSettings] of Object.entries(stores)) {
    t.test(`${title} [${name}]`, async (t) => {
      const generatePair = keyPairs()
      await body(t, async (settings = {}) =>
        buildOn(t, { ...(await storeSettings(t)), ...settings }, { now: Date.now() }, generatePair),
      )
    })
  }
}

/** Runs a test over one store: of what none has a part in, or of what is tested over each elsewhere. */
export function onOneStore(title: string, body: (t: Test, build: Build) => Promise<unknown>): void {
  t.test(title, (t) => body(t, buildOnLmdb(t)))
}

/**
 * Runs tests over one app, which they leave as they found it: it ends with the last of them.
 *
 * @param make is called once
 * @returns what runs each
 */
export function onOneApp<App>(make: (t: Scope, build: Build) => Promise<App>) {
  const ends: (() => unknown)[] = []
  const scope = { teardown: (end: () => unknown) => void ends.unshift(end) } as Scope
  let made: Promise<App> | undefined
  let left = 0
  return (title: string, body: (t: Test, app: App) => Promise<unknown>): void => {
    left += 1
    t.test(title, async (t) => {
      t.teardown(async () => {
        left -= 1
        if (left === 0) for (const end of ends) await end()
      })
      made ??= make(scope, buildOnLmdb(scope))
      await body(t, await made)
    })
  }
}

function buildOnLmdb(t: Scope): Build {
  const generatePair = keyPairs()
  return async (settings = {}) =>
    buildOn(t, { AUTH_DATA_DIR: await newDir(t), ...settings }, { now: Date.now() }, generatePair)
}

async function buildOn(
  t: Scope,
  settings: Record<string, string>,
  clock: Clock,
  generatePair: ReturnType<typeof keyPairs>,
): Promise<TestApp> {
  const logs: TestApp['logs'] = []
  const config = readConfig({ ...cheapHashing, AUTH_ISSUER: 'http://localhost:3000', ...settings })
  const app = await buildApp(config, {
    now: () => clock.now,
    uptimeMs: () => performance.now() + (clock.passedMs ?? 0),
    logStream: { write: (line) => logs.push(JSON.parse(line)) },
    generatePair,
  })
  t.teardown(() => app.close())
  return {
    app,
    clock,
    config,
    logs,
    async restart(changed = {}) {
      await app.close()
      return buildOn(t, { ...settings, ...changed }, clock, generatePair)
    },
    beside: (another = clock) => buildOn(t, settings, another, generatePair),
  }
}

export const json = (response: LightMyRequestResponse) => response.json()

/** Sends a form. */
export function postForm(
  app: FastifyInstance,
  url: string,
  fields: Record<string, string>,
  options: InjectOptions = {},
) {
  return app.inject({
    method: 'POST',
    url,
    ...options,
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...options.headers },
    payload: new URLSearchParams(fields).toString(),
  })
}

export function signUp(app: FastifyInstance, username = 'ada', secret = password) {
  return app.inject({ method: 'POST', url: '/signup', payload: { username, password: secret } })
}

export interface Tokens {
  access_token: string
  refresh_token: string
}

export async function logIn(app: FastifyInstance, username = 'ada', secret = password): Promise<Tokens> {
  const response = await postForm(app, '/token', { grant_type: 'password', username, password: secret })
  if (response.statusCode !== 200) throw new Error(`login failed: ${response.body}`)
  return response.json()
}

export function refresh(app: FastifyInstance, refreshToken: string) {
  return postForm(app, '/token', { grant_type: 'refresh_token', refresh_token: refreshToken })
}

/** Calls with a bearer token. */
export function withToken(app: FastifyInstance, accessToken: string, options: InjectOptions) {
  return app.inject({ ...options, headers: { ...options.headers, authorization: `Bearer ${accessToken}` } })
}

/** @returns whether an access token is still taken */
export async function isAccepted(app: FastifyInstance, accessToken: string): Promise<boolean> {
  return (await withToken(app, accessToken, { url: '/protected' })).statusCode === 200
}

/** The challenges of RFC 6750 §3, exactly. */
export const challenges = {
  missing: 'Bearer realm="latchkey"',
  expired: 'Bearer realm="latchkey", error="invalid_token", error_description="The access token expired"',
  revoked: 'Bearer realm="latchkey", error="invalid_token", error_description="The access token was revoked"',
  invalid: 'Bearer realm="latchkey", error="invalid_token", error_description="The access token is invalid"',
} as const

/** @returns the challenge that refuses an access token; undefined when it is taken */
export async function challengeTo(app: FastifyInstance, accessToken: string): Promise<string | undefined> {
  const response = await withToken(app, accessToken, { url: '/protected' })
  return response.headers['www-authenticate'] as string | undefined
}

/** Listens on a free port of the loopback. @returns the origin */
export function listen(app: FastifyInstance): Promise<string> {
  return app.listen({ host: '127.0.0.1', port: 0 })
}

/**
 * Sends bytes as they are over a connection of their own, which is closed behind the answer.
 *
 * @param origin as `listen` gave it
 * @returns all that came back, one character for each byte
 */
export function sendRaw(origin: string, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(Number(new URL(origin).port), '127.0.0.1', () => socket.write(text, 'latin1'))
    socket.setEncoding('latin1').on('data', (chunk) => {
      answer += chunk
      // Not before: Node drops what it has not answered yet of a client that has closed its half.
      if (/(^|\r\n\r\n)HTTP\/1\.1 [2-5][\s\S]*?\r\n\r\n/.test(answer)) socket.end()
    })
    socket.on('close', () => resolve(answer)).on('error', reject)
  })
}

/** The store of an app with all of its methods, for what a test has happen behind the app's back. */
export const storeOf = (app: FastifyInstance): Store => app.store as Store
