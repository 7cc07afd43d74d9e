import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { locales } from '../../domain/user.ts'
import { localeOf } from '../../plugins/http/locale.ts'
import { linkKinds, linkOf, type MailKind, noticeKinds } from '../../plugins/mail/kinds.ts'
import { compose, texts } from '../../plugins/mail/texts/compose.ts'
import { factorChanges, facts, ways } from '../../plugins/mail/texts/texts.ts'
import { root } from '../support/program.ts'

/*
 * What mails say. `test/spec/mails/` has all of them, as text and as HTML to look at in a browser; after a change of words
 * `UPDATE=1 npm test -- test/spec/mail-texts.test.ts` writes them anew.
 */

const kinds: MailKind[] = [...linkKinds, ...noticeKinds]
const dir = join(root, 'test/spec/mails')
const at = Date.parse('2026-11-26T23:05:09Z')

/** A mail as it is sent: with link and code where its kind has them. */
function mailOf(kind: MailKind, locale: (typeof locales)[number], of: Partial<Parameters<typeof compose>[0]> = {}) {
  const link = linkKinds.map((one) => ({ one, ...linkOf(one) })).find(({ one }) => one === kind)
  return compose({
    ...{ kind, locale, service: 'Example' },
    ...(link && { link: `https://auth.example.com${link.path}?${link.parameter}=${link.prefix}${'x'.repeat(43)}` }),
    ...(link && { expiresAt: at + link.ttlSeconds * 1000 }),
    ...(link?.hasCode && { code: '12345678' }),
    about: kind in shown ? (shown[kind] as Record<string, string>) : { username: 'alice' },
    ...of,
  })
}
const place = { device: 'Firefox, Windows', address: '203.0.113.7' }
const happened = { username: 'alice', at: new Date(at).toISOString() }
const shown: Partial<Record<MailKind, Record<string, string>>> = {
  verify: {},
  change: {},
  invitation: {},
  reset: { ...happened, ...place },
  undo: { ...happened, ...place },
  sign_in: { ...happened, ...place },
  password_changed: { ...happened, how: 'reset', ...place },
  email_changed: { ...happened, ...place },
  refresh_reused: { ...happened, ...place },
  factor_changed: { ...happened, what: 'code_used', left: '9', ...place },
}

for (const locale of locales) {
  t.test(`every mail says what its page in test/spec/mails says [${locale}]`, async (t) => {
    const all = kinds.map((kind) => ({ kind, ...mailOf(kind, locale) }))
    const files = {
      [`${locale}.txt`]: all.map(({ kind, subject, text }) => `=== ${kind}\nSubject: ${subject}\n\n${text}`).join('\n'),
      [`${locale}.html`]: all.map(({ kind, html }) => `<!-- ${kind} -->\n${html}`).join('<hr>\n'),
    }
    for (const [name, content] of Object.entries(files)) {
      if (process.env['UPDATE']) {
        mkdirSync(dir, { recursive: true })
        writeFileSync(join(dir, name), content)
      }
      t.equal(readFileSync(join(dir, name), 'utf8'), content, name)
    }
  })
}

t.test('the languages have the same placeholders in the same mails, and no other', async (t) => {
  const placeholdersOf = (text: string) => text.match(/\{\w*\}/g) ?? []
  const allowed = ['{service}', '{life}', '{until}', '{link}', '{code}', '{facts}']
  for (const kind of kinds) {
    const [en, ko] = locales.map((locale) => texts[locale].mails[kind]) as [typeof one, typeof one]
    const one = texts.en.mails[kind]
    const of = ({ paragraphs }: typeof one) => paragraphs.flatMap(placeholdersOf).filter((name) => name !== '{service}')
    t.same(of(ko).sort(), of(en).sort(), kind)
    for (const { subject, paragraphs, action } of [en, ko]) {
      t.same(placeholdersOf(subject), ['{service}'], `${kind}: a subject has nothing of a user`)
      t.match(paragraphs[0], '{service}', `${kind}: it begins with whose account it is about`)
      t.same(
        paragraphs.flatMap(placeholdersOf).filter((name) => !allowed.includes(name)),
        [],
      )
      t.equal(action !== undefined, paragraphs.includes('{link}'), `${kind}: a link has a name`)
      const link = linkKinds.find((name) => name === kind)
      t.equal(paragraphs.includes('{link}'), link !== undefined, kind)
      t.equal(paragraphs.includes('{code}'), link !== undefined && linkOf(link).hasCode, kind)
      for (const name of ['{life}', '{until}']) t.equal(paragraphs.join().includes(name), link !== undefined, kind)
    }
  }
})

t.test('no particle of Korean follows a name that is put in', async (t) => {
  for (const { subject, paragraphs } of Object.values(texts.ko.mails))
    for (const text of [subject, ...paragraphs]) t.notMatch(text, /\{service\}[\uac00-\ud7a3]/)
})

t.test('a mail says how long its link lives, in words and as a time', async (t) => {
  t.match(mailOf('reset', 'en').text, 'for 15 minutes: until 26 November 2026 23:20 (UTC).')
  t.match(mailOf('verify', 'en').text, 'for 24 hours: until 27 November 2026 23:05 (UTC).')
  t.match(mailOf('undo', 'en').text, 'for 7 days: until 3 December 2026 23:05 (UTC).')
  t.match(mailOf('reset', 'ko').text, '15분 동안 한 번만 쓸 수 있습니다. 만료 시각: 2026년 11월 27일 08:20 (한국 시간)')
})

t.test('the code is in one piece, to be copied, and found by phones', async (t) => {
  for (const locale of locales) {
    const { text, html } = mailOf('verify', locale)
    t.match(text, '\n\n12345678\n\n')
    t.match(html, '>12345678</p>')
  }
})

t.test('what a stranger has chosen stays one line of visible text, and is no HTML', async (t) => {
  const longest = `${'a'.repeat(64)}@${'b'.repeat(185)}.com`
  t.equal(Buffer.byteLength(longest), 254)
  const hostile = [
    '<script>alert(1)</script>',
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    'a\r\nBcc: everyone@example.com\r\n\r\nPay here',
    'a\u2028b\u2029c\u0085d\0e',
    '\u202egnp.exe\u202c\u200f\u2066hidden\u200b',
    '{link}{code}{service}$&$1',
    longest,
    'ㅎ'.repeat(10_000),
  ]
  for (const locale of locales)
    for (const kind of kinds)
      for (const value of hostile) {
        const about = Object.fromEntries([...facts, 'else'].map((fact) => [fact, fact === 'at' ? '' : value]))
        const { subject, text, html } = mailOf(kind, locale, { service: value, about })
        const asUsual = mailOf(kind, locale, { about: { ...about, how: '', what: '' } })
        t.notMatch(subject, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u)
        t.notMatch(text.replaceAll('\n', ''), /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u)
        t.equal(text.split('\n').length, asUsual.text.split('\n').length, 'no line more')
        t.ok(text.length < 8_000)
        t.notMatch(html, /<script|<img|' onmouseover/)
        const tags = (page: string) => page.match(/<\/?[a-z]+/g)
        t.same(tags(html), tags(asUsual.html), 'no tag more')
      }
  t.match(mailOf('sign_in', 'en', { about: { username: longest } }).text, `Account: ${longest}\n`)
  t.match(mailOf('sign_in', 'en', { about: { username: '{link}$&' } }).text, 'Account: {link}$&\n')
})

t.test('what is not known is left out', async (t) => {
  const none = mailOf('sign_in', 'en', { about: {} })
  t.notMatch(none.text, /Account|Time|How|Device|undefined|\n{3}/)
  t.notMatch(none.html, /<bdi>|undefined/)
  const odd = mailOf('password_changed', 'en', {
    about: { at: 'tomorrow', how: 'toString', what: 'toString', username: 'alice' },
  })
  t.match(odd.text, '\n\nAccount: alice\n\n')
  for (const locale of locales)
    for (const what of factorChanges)
      t.match(mailOf('factor_changed', locale, { about: { what } }).text, texts[locale].factorChanges[what])
  for (const how of ways) t.match(mailOf('password_changed', 'ko', { about: { how } }).text, texts.ko.ways[how])
})

t.test('the language is the first of ui_locales that we have, or else the best of Accept-Language', async (t) => {
  const of = (header?: string, query: unknown = {}, body?: unknown) =>
    localeOf({ query, body, headers: header === undefined ? {} : { 'accept-language': header } })
  t.equal(of(), 'en')
  t.equal(of(''), 'en')
  t.equal(of('*'), 'en')
  t.equal(of('fr, de;q=0.5'), 'en')
  t.equal(of('ko'), 'ko')
  t.equal(of('ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7'), 'ko')
  t.equal(of('en-US,en;q=0.9,ko;q=0.8'), 'en')
  t.equal(of('en;q=0.1, ko;q=0.2'), 'ko')
  t.equal(of('ko;q=0, en;q=0.1'), 'en')
  t.equal(of('ko;q=0'), 'en')
  t.equal(of('KO-kr'), 'ko')
  t.equal(of('korean'), 'en')
  t.equal(of('fr-CH, fr;q=0.9, ko;q=0.1'), 'ko')
  t.equal(of('ko;q=1;;,,=,\t;q', {}), 'ko')
  t.equal(of('en', { ui_locales: 'fr-CA ko-KR en' }), 'ko')
  t.equal(of('ko', { ui_locales: 'EN' }), 'en')
  t.equal(of('ko', { ui_locales: 'fr' }), 'ko')
  t.equal(of('ko', {}, { ui_locales: 'en' }), 'en')
  for (const odd of [['ko'], { ko: 1 }, 7, null, 'kor', 'toString __proto__'])
    t.equal(of('en', { ui_locales: odd }), 'en')
  for (const odd of [null, 'ko', ['ko'], 7]) t.equal(of('en', odd, odd), 'en')
})

t.test('a header as long as a request may have costs little', async (t) => {
  const header = 'a-b;q=0.1,'.repeat(1_600)
  const startedAt = performance.now()
  for (let i = 0; i < 10; i++) localeOf({ query: {}, body: undefined, headers: { 'accept-language': header } })
  t.ok((performance.now() - startedAt) / 10 < 50)
})
