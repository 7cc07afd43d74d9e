import fc from 'fast-check'
import t from 'tap'
import { isUsername, mapUsername } from '../../domain/usernames.ts'
import { anyText } from '../support/any-text.ts'
import {
  giveRoles,
  json,
  logIn,
  onOneStore,
  overStores,
  password,
  postForm,
  signUp,
  storeOf,
  withToken,
} from '../support/helper.ts'
import { isLong } from '../support/processes.ts'

/** What names are made of. */
const likelyCharacters = [
  ...'aZß İıΣσςŉǅﬁＡ＠１①⑴½℀㎏ªµ',
  ..."\u0301\u0307\u0345\u093f\u200d\u00ad\u3164\ufe0f\u2019._-@+'",
  '가',
  '\u1100',
  '𐐀',
  '한',
]
const likelyText = fc.string({ unit: fc.constantFrom(...likelyCharacters), minLength: 1, maxLength: 12 })
const texts = fc.oneof(anyText({ maxLength: 12 }), likelyText)

t.test('mapping a mapped name changes nothing, for any text', async () => {
  fc.assert(
    fc.property(texts, (text) => mapUsername(mapUsername(text)) === mapUsername(text)),
    { numRuns: 5_000 },
  )
})

t.test('a name may be used if and only if its mapped form may, for any text', async () => {
  fc.assert(
    fc.property(texts, (text) => isUsername(text) === isUsername(mapUsername(text))),
    { numRuns: 5_000 },
  )
})

t.test('each character of Unicode maps to what maps to itself', async (t) => {
  const wrong: string[] = []
  for (let codePoint = 0; codePoint <= 0x10ffff; codePoint += 1) {
    if (codePoint >= 0xd800 && codePoint <= 0xdfff) continue
    // Planes that hold nothing, or what is for private use: some are enough.
    if (!isLong && codePoint >= 0x40000 && codePoint >> 16 !== 0xe && codePoint % 101 > 0) continue
    const character = String.fromCodePoint(codePoint)
    const text = `a${character}Σ`
    const mapped = mapUsername(text)
    if (mapUsername(mapped) !== mapped || isUsername(text) !== isUsername(mapped)) wrong.push(text)
  }
  t.strictSame(wrong, [])
})

const good = [
  'a',
  '0',
  'Ada.Lovelace',
  'ada_l-2+news@example.com',
  "o'brien@example.com",
  'jörg@bücher.example',
  '用户@例子.广告',
  'अजय@डाटा.भारत',
  'Ünal',
  'İstanbul',
  '李小龍',
  'Ελένης',
  'e\u0301tienne',
  'ＦＵＬＬ＠ｅｘａｍｐｌｅ',
  'हिन्दी',
  'தமிழ்',
  '김철수',
  'ﬁne',
  'x'.repeat(254),
  '𐐀'.repeat(254),
  'e\u0301'.repeat(254),
]

const bad = {
  empty: '',
  'a space': ' ',
  'a space within': 'ada lovelace',
  'a space at the end': 'ada ',
  'a slash': 'a/b',
  'a colon': 'a:b',
  'other punctuation': 'ada!',
  'a line end': 'a\nb',
  'a line end at the end': 'ada\n',
  markup: '<b>',
  'a curly apostrophe': 'o’brien',
  'a zero-width space': 'a\u200bb',
  'a zero-width joiner': 'a\u200db',
  'a right-to-left override': '\u202eada',
  'a soft hyphen': 'ada\u00ad',
  'a byte order mark': '\ufeffada',
  'a variation selector': 'ada\ufe0f',
  'a letter that nobody sees': '\u3164',
  'a joiner of graphemes': 'a\u034fb',
  'a mark alone': '\u0301',
  'marks alone': '\u0301\u0302',
  'a mark first': '\u0301ada',
  'a mark without a letter': 'ada-\u0301',
  'an emoji': '😀',
  'a wide space': 'a\u3000b',
  'what maps to a/c': '℀',
  'what maps to a fraction slash': '½',
  'what maps to brackets': '⑴',
  'what maps to words with spaces': 'ﷺ',
  'an unassigned character': 'a\u0378',
  '255 characters': 'x'.repeat(255),
  '255 characters beyond the BMP': '𐐀'.repeat(255),
  '128 that map to 256': 'ĳ'.repeat(128),
  'more than any 254 are before they are mapped': 'x'.repeat(2000),
}

onOneStore("a username is 1 to 254 letters with their marks, digits and ._-@+', shown as typed", async (t, build) => {
  const { app } = await build()
  for (const username of good) {
    const response = await signUp(app, username)
    t.equal(response.statusCode, 201, username)
    if (response.statusCode !== 201) continue
    t.equal(json(response).username, username)
    const { access_token } = await logIn(app, username)
    t.equal(json(await withToken(app, access_token, { url: '/users/me' })).username, username)
  }
  for (const [what, username] of Object.entries(bad)) {
    const response = await signUp(app, username)
    t.equal(response.statusCode, 400, what)
    t.match(json(response).errors, [{ pointer: '/username', detail: String }])
    if (username === '') continue
    const login = await postForm(app, '/token', { username, password })
    t.strictSame(
      [login.statusCode, json(login).error],
      [400, 'invalid_grant'],
      `${what}: to log in with it is simply wrong`,
    )
  }
})

overStores('names that are one by NFKC and case are one account', async (t, build) => {
  const { app } = await build()
  t.equal((await signUp(app, 'Étienne')).statusCode, 201)
  for (const same of ['étienne', 'ÉTIENNE', 'E\u0301tienne', 'Ｅ\u0301ｔienne']) {
    t.equal((await signUp(app, same)).statusCode, 409, same)
    const { access_token } = await logIn(app, same)
    t.equal(json(await withToken(app, access_token, { url: '/users/me' })).username, 'Étienne')
  }
  t.equal((await signUp(app, 'Etienne')).statusCode, 201, 'an accent makes another')
})

overStores('a name of 254 characters of four bytes each works on every route', async (t, build) => {
  const { app } = await build()
  const [first, second] = [`${'𐐀'.repeat(253)}𐐁`, `${'𐐀'.repeat(253)}𐐂`]
  const { id } = json(await signUp(app, first))
  t.equal((await signUp(app, first.toLowerCase())).statusCode, 409, 'one account in either case')
  t.equal((await signUp(app, second)).statusCode, 201)
  await giveRoles(storeOf(app), id, ['admin'])
  const { access_token } = json(
    await postForm(app, '/token', { username: first.toLowerCase(), password, scope: 'admin' }),
  )
  const get = async (url: string) => json(await withToken(app, access_token, { url }))

  t.equal((await get('/protected')).message, `Hello ${first}! This is a protected route`)
  t.equal((await get(`/admin/users?username=${encodeURIComponent(second)}`)).users[0]?.username, second)
  const page = await get('/admin/users?limit=1')
  t.equal(page.users[0]?.username, first)
  t.equal((await get(`/admin/users?cursor=${page.next_cursor}`)).users[0]?.username, second, 'and as a cursor')
  const removed = await withToken(app, access_token, { method: 'DELETE', url: '/users/me', payload: { password } })
  t.equal(removed.statusCode, 204)
  t.equal((await signUp(app, first)).statusCode, 201, 'and is free again')
})
