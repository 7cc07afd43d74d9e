import type { FastifyInstance } from 'fastify'
import { json, logIn, overStores, password, signUp, storeOf } from '../support/helper.ts'
import { mailsInto, outboxOf } from '../support/mail.ts'

const newPassword = 'another horse, another battery'

const post = (app: FastifyInstance, url: string, payload: object, headers: Record<string, string> = {}) =>
  app.inject({ method: 'POST', url, payload, headers })
const forgot = (app: FastifyInstance, by: object) => post(app, '/password/forgot', by)
const reset = (app: FastifyInstance, by: object, secret = newPassword) =>
  post(app, '/password/reset', { ...by, new_password: secret })

/** Signs up, with a verified address unless told otherwise. */
export async function signUpWith(app: FastifyInstance, username: string, email: string, isVerified = true) {
  const { id } = json(await signUp(app, username))
  const user = await app.userAdmin.get({ id })
  const next = { ...user, email, ...(isVerified && { emailKey: email.toLowerCase() }) }
  await storeOf(app).changeUser({ userId: id, expected: user, next })
  return id as string
}

overStores('a forgotten password is replaced by the link or the code of a mail, once', async (t, build) => {
  const { app, clock } = await build(await mailsInto(t))
  const outbox = outboxOf(app)
  await signUpWith(app, 'ada', 'Ada@example.com')
  const session = await logIn(app)
  const asked = await forgot(app, { username: 'ADA' })
  t.equal(asked.statusCode, 202)
  t.same(Object.keys(json(asked)), ['id'])
  const { token, code } = outbox.last('Ada@example.com')
  t.equal((await reset(app, { token })).statusCode, 204)
  t.equal((await reset(app, { id: json(asked).id, code })).statusCode, 400)
  t.ok(session)
  t.ok(await logIn(app, 'ada', newPassword))
  clock.now += 60_000
  const again = json(await forgot(app, { email: 'ADA@EXAMPLE.COM' }))
  t.equal((await reset(app, { id: again.id, code: outbox.last('Ada@example.com').code }, password)).statusCode, 204)
  t.ok(await logIn(app))
})
