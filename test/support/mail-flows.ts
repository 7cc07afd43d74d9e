import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import type { Presenting } from '../../plugins/mail/mail.ts'
import { json, logIn, password, signUp, storeOf, withToken } from './helper.ts'

export const newPassword = 'another horse, another battery'

const post = (app: FastifyInstance, url: string, payload: object, remoteAddress = '192.0.2.1') =>
  app.inject({ method: 'POST', url, payload, remoteAddress })

export const forgot = (app: FastifyInstance, by: object, from?: string) => post(app, '/password/forgot', by, from)
export const reset = (app: FastifyInstance, by: Presenting, secret = newPassword) =>
  post(app, '/password/reset', { ...by, new_password: secret })
export const verify = (app: FastifyInstance, by: Presenting) => post(app, '/email/verify', by)
export const undo = (app: FastifyInstance, token: string) => post(app, '/email/undo', { token })

/** What an answer is, but for what differs in each: its id and that of the request. */
export function shapeOf({ statusCode, headers, body }: LightMyRequestResponse) {
  const { 'x-request-id': _, date: __, 'content-length': ___, ...rest } = headers
  return { statusCode, headers: rest, body: body.replace(/"id":"[\w-]{43}"/, '"id":"…"') }
}

/** Signs up, and has an address that is verified unless told otherwise. @returns the id */
export async function signUpWith(app: FastifyInstance, username: string, email: string, isVerified = true) {
  const { id } = json(await signUp(app, username))
  const user = await app.userAdmin.get({ id })
  const next = { ...user, email, ...(isVerified && { emailKey: email.toLowerCase() }) }
  await storeOf(app).changeUser({ userId: id, expected: user, next })
  return id as string
}

/** A user who is signed in. */
export async function signedIn(app: FastifyInstance, username = 'ada', secret = password) {
  const tokens = await logIn(app, username, secret)
  const call = (method: 'GET' | 'POST' | 'DELETE', url: string, payload?: object) =>
    withToken(app, tokens.access_token, { method, url, ...(payload && { payload }) })
  return {
    ...tokens,
    profile: async () => json(await call('GET', '/users/me')),
    call,
    askFor: (email: string, secret = password) => call('POST', '/users/me/email', { email, password: secret }),
  }
}
