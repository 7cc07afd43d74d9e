import t, { type Test } from 'tap'
import { startChromium, withoutChromium } from '../support/chromium.ts'
import { callerFrom } from '../support/client-helper.ts'
import { type Build, giveEmail, listen, onOneStore, password, signUp, storeOf } from '../support/helper.ts'
import { inBothLanguages } from '../support/looking.ts'
import { mailsInto } from '../support/mail.ts'

/* Every page that needs no sign-in, in each of its states, as `looking.ts` says. */

const newPassword = 'seven grey herons on a quay'

const title = 'every page passes axe-core and fits a narrow screen, in both languages, light and dark, without script'
if (withoutChromium) t.test(title, { skip: withoutChromium }, async () => {})
else onOneStore(title, lookAtPages)

async function lookAtPages(t: Test, build: Build): Promise<void> {
  const { app } = await build({ ...(await mailsInto(t)), AUTH_THROTTLE: 'off' })
  const origin = await listen(app)
  const browser = await startChromium(t)
  await inBothLanguages(t, browser, `${origin}/forgot`, async ({ page, locale, texts, look }) => {
    const { id: owner } = (await signUp(app, `ada-${locale}`)).json()
    const to = `ada.lovelace@${locale}.example.com`
    await giveEmail(storeOf(app), owner, to)
    const link = async (kind: 'verify' | 'reset' | 'undo') =>
      (await app.mail.issue(kind, { owner, source: 'test', to, locale })).link.replace('http://localhost:3000', origin)
    const send = () => page.locator('button').click()

    await page.goto(`${origin}/forgot`)
    await look('forgot', texts.forgot.title)
    await page.fill('[name=name]', ' ')
    await send()
    await look('forgot-wrong', texts.forgot.title)
    await page.fill('[name=name]', 'ada')
    await send()
    await look('sent', texts.forgot.sentTitle)
    await page.fill('[name=code]', '00000000')
    await page.fill('[name=new_password]', newPassword)
    await send()
    await look('code-wrong', texts.reset.title)

    const reset = await link('reset')
    await page.goto(reset)
    await look('reset', texts.reset.title)
    await page.fill('[name=new_password]', 'password password')
    await send()
    await look('reset-wrong', texts.reset.title)
    await page.fill('[name=new_password]', newPassword)
    await send()
    await look('reset-done', texts.reset.doneTitle)
    await page.goto(reset)
    await look('reset-dead', texts.dead.title)
    for (const name of ['verify', 'undo'] as const) {
      const href = await link(name)
      await page.goto(href)
      await look(name, texts[name].title)
      await send()
      await look(`${name}-done`, texts[name].doneTitle)
      await page.goto(href)
      await look(`${name}-dead`, texts.dead.title)
    }
    const guest = await app.invitations.invite(callerFrom('192.0.2.1', app.log), { email: `guest-${to}` }, locale)
    await page.goto(guest.link.replace('http://localhost:3000', origin))
    await look('sign-up', texts.signUp.title)
    await page.fill('[name=username]', `ada-${locale}`)
    await page.fill('[name=password]', password)
    await send()
    await look('sign-up-wrong', texts.signUp.title)
    await page.fill('[name=username]', `bob-${locale}`)
    await page.fill('[name=password]', password)
    await send()
    await look('sign-up-done', texts.signUp.doneTitle)
    await page.goto(`${origin}/sign-up?invitation=x`)
    await look('sign-up-dead', texts.dead.title)
    await page.goto(`${origin}/reset?token=%zz`)
    await look('failed', texts.failed.title)
  })
}
