import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import { from } from '../support/client-helper.ts'
import { begin, challenge, codeOf, giveRecoveryCodes, giveTotp, signInWithCode, wrongCode } from '../support/factors.ts'
import { type Build, json, onOneStore, overStores, password, signUp, storeOf } from '../support/helper.ts'

/* What somebody gets who knows the password, and guesses or steals at the second factor. */

const stepMs = 30_000
type Shown = { otp: string } | { recovery_code: string }

/** Ada, with an authenticator app and recovery codes. */
async function start(build: Build, settings: Record<string, string> = {}) {
  const test = await build(settings)
  await signUp(test.app)
  return { ...test, ...(await giveTotp(test.app)), recoveryCodes: await giveRecoveryCodes(test.app) }
}

/** Shows something after the right password. */
async function show(app: FastifyInstance, shown: Shown, username = 'ada'): Promise<LightMyRequestResponse> {
  const { auth_session } = json(await begin(app, username))
  return challenge(app, { auth_session, ...shown })
}

const isIn = ({ statusCode }: LightMyRequestResponse) => statusCode === 200
function isRefused(t: Test, answer: LightMyRequestResponse, what: string) {
  t.equal(answer.statusCode, 400, what)
  t.equal(json(answer).error, 'insufficient_authorization', what)
}

onOneStore('what is no code of hers, of now, and new, is refused', async (t, build) => {
  const { app, clock, secret, recoveryCodes } = await start(build, { AUTH_THROTTLE: 'off' })
  await signUp(app, 'bob')
  const bob = { ...(await giveTotp(app, 'bob')), recoveryCodes: await giveRecoveryCodes(app, 'bob') }
  // In the middle of a step, so that none ends while this is at it.
  clock.now = Math.floor(clock.now / stepMs) * stepMs + stepMs / 2
  const code = codeOf(secret, clock.now)
  const [recoveryCode = '', spare = ''] = recoveryCodes
  const never: Record<string, Shown> = {
    'two steps ago': { otp: codeOf(secret, clock.now, -2) },
    'two steps on': { otp: codeOf(secret, clock.now, 2) },
    "another user's": { otp: codeOf(bob.secret, clock.now) },
    'in digits that are full-width': {
      otp: code.replace(/\d/g, (digit) => String.fromCodePoint(0xff10 + Number(digit))),
    },
    'in Arabic digits': { otp: code.replace(/\d/g, (digit) => String.fromCodePoint(0x660 + Number(digit))) },
    'five of its digits': { otp: code.slice(1) },
    'and one digit more': { otp: `${code}0` },
    'as a number with a sign': { otp: `+${code}` },
    'two codes': { otp: `${code},${codeOf(secret, clock.now, 1)}` },
    'the secret': { otp: secret },
    'a recovery code, as one of the app': { otp: recoveryCode },
    'one of the app, as a recovery code': { recovery_code: code },
    "another user's recovery code": { recovery_code: bob.recoveryCodes[0] ?? '' },
    'half a recovery code': { recovery_code: recoveryCode.slice(0, 9) },
    'two recovery codes': { recovery_code: `${recoveryCode} ${spare}` },
  }
  for (const [what, shown] of Object.entries(never)) isRefused(t, await show(app, shown), what)

  t.ok(isIn(await show(app, { otp: codeOf(secret, clock.now, -1) })), 'the step before is good, for slow fingers')
  t.ok(isIn(await show(app, { otp: `${code.slice(0, 3)} ${code.slice(3)}` })), 'and this one, with a space')
  isRefused(t, await show(app, { otp: code }), 'a replay')
  isRefused(t, await show(app, { otp: codeOf(secret, clock.now, -1) }), 'of one before the last')
  t.ok(
    isIn(await show(app, { otp: codeOf(secret, clock.now, 1) })),
    'the step after is good, for clocks that are ahead',
  )
  isRefused(t, await show(app, { otp: code }), 'then this one is not')
  t.ok(isIn(await show(app, { recovery_code: recoveryCode.toLowerCase().replaceAll('-', ' ') })))
  isRefused(t, await show(app, { recovery_code: recoveryCode }), 'a recovery code once more, however it is typed')

  clock.now += 60 * stepMs
  t.ok(isIn(await show(app, { otp: codeOf(secret, clock.now) })))
  const ada = await storeOf(app).findUserByName('ada')
  const { factors, version } = await app.factors.of(ada?.id ?? '')
  const ahead = factors.map((factor) => (factor.kind === 'totp' ? { ...factor, step: factor.step + 2880 } : factor))
  await storeOf(app).changeFactors({ userId: ada?.id ?? '', expectedVersion: version, next: ahead })
  clock.now += stepMs
  t.ok(isIn(await show(app, { otp: codeOf(secret, clock.now) })), 'a clock that was a day ahead locks nobody out')
  isRefused(t, await show(app, { otp: codeOf(secret, clock.now) }), 'and then there is no replay')
  const user = await storeOf(app).findUserByName('bob')
  await storeOf(app).changeFactors({ userId: user?.id ?? '', expectedVersion: 2, next: [] })
  await giveTotp(app, 'bob')
  isRefused(t, await show(app, { otp: codeOf(bob.secret, clock.now) }, 'bob'), 'of an app that was removed')
  isRefused(t, await show(app, { recovery_code: bob.recoveryCodes[0] ?? '' }, 'bob'), 'of a set that was removed')
})

overStores('a code, and a recovery code, at two replicas at once: one sign-in each', async (t, build) => {
  const { app, clock, secret, recoveryCodes, beside } = await start(build, { AUTH_THROTTLE: 'off' })
  const apps = [app, (await beside()).app]
  for (const shown of [{ otp: codeOf(secret, clock.now) }, { recovery_code: recoveryCodes[0] ?? '' }]) {
    const answers = await Promise.all(Array.from({ length: 16 }, (_, i) => show(apps[i % 2] as FastifyInstance, shown)))
    t.equal(answers.filter(isIn).length, 1, Object.keys(shown).join())
  }
  const all = await Promise.all(
    recoveryCodes.slice(1).map((code, i) => show(apps[i % 2] as FastifyInstance, { recovery_code: code })),
  )
  t.equal(all.filter(isIn).length, 9, 'different ones at once are good, all of them')
  isRefused(t, await show(app, { recovery_code: recoveryCodes[1] ?? '' }), 'and then there is none')
})

overStores('a factor that is removed while a sign-in is open ends it there', async (t, build) => {
  const { app, clock, id, secret } = await start(build)
  const user = await storeOf(app).findUserByName('ada')
  const { auth_session } = json(await begin(app))
  const second = await giveTotp(app)
  const { factors, version } = await app.factors.of(user?.id ?? '')
  const next = factors.filter((factor) => factor.id !== id)
  await storeOf(app).changeFactors({ userId: user?.id ?? '', expectedVersion: version, next, lowering: id })
  const answer = await challenge(app, { auth_session, otp: codeOf(secret, clock.now) })
  isRefused(t, answer, 'of the app that is gone')
  const by = { auth_session: json(answer).auth_session, otp: codeOf(second.secret, clock.now) }
  t.ok(isIn(await challenge(app, by)), 'of the one that is left')
})

onOneStore('of 6 digits, who knows the password has 100 compared, from 50 networks at 2 replicas', async (t, build) => {
  const { app, clock, secret, beside } = await start(build)
  const apps = [app, (await beside()).app]
  const networks = 50
  const otp = wrongCode(secret, clock.now)
  let [compared, refused] = [0, 0]
  /** Guesses with one `auth_session` after another, at one replica after the other. */
  async function attack(network: number) {
    const address = from(`198.51.${network}.7`)
    let value: string | undefined
    for (let n = 0; n < 6; n++) {
      const app = apps[n % 2] as FastifyInstance
      value ??= json(await challenge(app, { username: 'ada', password }, address)).auth_session
      const answer = value === undefined ? undefined : await challenge(app, { auth_session: value, otp }, address)
      value = answer && json(answer).auth_session
      if (value === undefined) refused += 1
      else compared += 1
    }
  }
  await Promise.all(Array.from({ length: networks }, (_, network) => attack(network)))
  t.comment(`of ${compared + refused} guesses ${compared} were compared`)
  t.ok(compared >= 100, 'so many are allowed before anybody has to wait')
  t.ok(compared <= 100 + networks / 2, 'and those that are under way at the other replica')
  const waits = await challenge(app, { username: 'ada', password }, from('192.0.2.1'))
  t.equal(waits.statusCode, 429, 'the owner has to wait as well, but with a passkey')
  clock.now += 3_600_000
  t.ok(await signInWithCode(app, codeOf(secret, clock.now)), 'for an hour at most')
})
