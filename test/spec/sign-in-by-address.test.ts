import type { FastifyInstance } from 'fastify'
import { from } from '../support/client-helper.ts'
import {
  claimsOf,
  giveEmail,
  json,
  onOneStore,
  overStores,
  password,
  postForm,
  signUp,
  storeOf,
} from '../support/helper.ts'

const tryLogIn = (app: FastifyInstance, username: string, secret: string, address = '198.51.100.7') =>
  postForm(app, '/token', { username, password: secret }, from(address))

/** Whom a name or address, and a password, sign in. @returns the id of the user, or the status of the refusal */
async function who(app: FastifyInstance, username: string, secret = password, address?: string) {
  const response = await tryLogIn(app, username, secret, address)
  return response.statusCode === 200 ? claimsOf(json(response).access_token)['sub'] : response.statusCode
}

async function make(app: FastifyInstance, username: string, secret = password): Promise<string> {
  return json(await signUp(app, username, secret)).id
}

overStores('a user signs in by name or by a verified address, however its domain is written', async (t, build) => {
  const { app } = await build()
  const ada = await make(app, 'ada')
  const bob = await make(app, 'bob')
  await giveEmail(storeOf(app), ada, 'Ada@Bücher.example')
  await giveEmail(storeOf(app), bob, 'bob@example.com', false)
  for (const text of ['ada', 'Ada@Bücher.example', 'ADA@BÜCHER.EXAMPLE', 'ada@xn--bcher-kva.example'])
    t.equal(await who(app, text), ada, text)
  const refusals = [
    await tryLogIn(app, 'bob@example.com', password),
    await tryLogIn(app, 'nobody@example.com', password),
    await tryLogIn(app, 'ada@bücher.example', 'a wrong password'),
  ].map(({ statusCode, body }) => `${statusCode} ${body}`)
  t.equal(new Set(refusals).size, 1, 'one that is not verified is as unknown as one that nobody has')
  t.match(refusals[0], /^400 .*invalid_grant/)

  await giveEmail(storeOf(app), ada, 'ada@new.example')
  t.equal(await who(app, 'ada@new.example'), ada)
  t.equal(await who(app, 'ada@bücher.example'), 400, 'an address that was given up is nobody’s')
  await giveEmail(storeOf(app), bob, 'Ada@Bücher.example')
  t.equal(await who(app, 'ada@bücher.example'), bob, 'and then that of whoever verifies it')
})

onOneStore('a name and an address of a user are one account to whoever guesses (contract §5)', async (t, build) => {
  const { app } = await build()
  const ada = await make(app, 'ada')
  await giveEmail(storeOf(app), ada, 'ada@example.com')
  const texts = ['ada', 'ada@example.com']
  for (let count = 0; count < 9; count++) t.equal(await who(app, texts[count % 2] as string, `guess ${count}`), 400)
  t.equal(await who(app, 'ada@example.com'), ada, 'a right one by address')
  for (let count = 0; count < 10; count++)
    t.equal(await who(app, texts[count % 2] as string, `guess ${count}`), 400, 'resets what was counted by name')
  for (const text of texts) t.equal(await who(app, text), 429, text)
  t.equal(await who(app, 'ada@example.com', password, '203.0.113.9'), ada, 'elsewhere the owner comes in')
})

overStores('a name that is the address of another keeps nobody out, and lets nobody in', async (t, build) => {
  const { app } = await build()
  const email = 'ada@example.com'
  const squatted = 'the password of another'
  const [ada, squatter] = [await make(app, 'ada'), await make(app, email, squatted)]
  t.equal(await who(app, email, squatted), squatter, 'a name, as long as nobody has verified the address')
  await giveEmail(storeOf(app), squatter, email, false)
  await giveEmail(storeOf(app), ada, email)
  for (let count = 0; count < 12; count++) t.equal(await who(app, email), ada, 'the owner of the address, at any time')
  t.equal(await who(app, email, squatted), squatter, 'and whoever has the name, by their own password')

  for (let count = 0; count < 9; count++) t.equal(await who(app, email, `guess ${count}`), 400)
  t.equal(await who(app, email, squatted), 429, 'guesses at it are counted for the owner of the address')
  t.equal(await who(app, 'ada'), 429)
})

onOneStore('signing in by one’s own name is no way to guess on at an address', async (t, build) => {
  const { app } = await build()
  const email = 'ada@example.com'
  await giveEmail(storeOf(app), await make(app, 'ada'), email)
  await make(app, email, 'the password of another')
  const ends = []
  for (let count = 0; count < 20; count++)
    ends.push(await who(app, email, count % 4 === 3 ? 'the password of another' : `guess ${count}`))
  t.equal(ends.filter((end) => end === 400).length, 8)
  t.same(ends.slice(10), Array(10).fill(429))
})
