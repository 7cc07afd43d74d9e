import { randomUUID } from 'node:crypto'
import { dictionary } from '@zxcvbn-ts/language-common'
import fc from 'fast-check'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { readConfig } from '../../config.ts'
import { createPasswordPolicy } from '../../plugins/accounts/password-policy.ts'
import { anyText } from '../support/any-text.ts'
import {
  giveRoles,
  json,
  logIn,
  onOneStore,
  password,
  postForm,
  signUp,
  storeOf,
  withToken,
} from '../support/helper.ts'

const tryLogIn = (app: FastifyInstance, username: string, secret: string) =>
  postForm(app, '/token', { username, password: secret })

const policyWith = (settings = {}) =>
  createPasswordPolicy({ config: readConfig({ AUTH_ISSUER: 'https://auth.acme.example', ...settings }) })
const policy = policyWith()

/** @returns why a password is refused; undefined when it is taken */
const refusalOf = (secret: string, { username = 'ada', by = policy } = {}): Promise<string | undefined> =>
  by.check(secret.normalize('NFC'), username, '/password').then(
    () => undefined,
    (error) => error.errors[0].detail,
  )

onOneStore('a password has at least 15 characters, counted in code points after NFC', async (t, build) => {
  const { app } = await build()
  const good = [
    'tin, otter, fog',
    '빠른 갈색 여우가 개를 넘어',
    '😀🐶🍎🚗⚽🎸🌙🔥💎🎲🐙🌵🍕🚀🎈',
    'àéîõüñçšžåāēīōū'.normalize('NFD'),
  ]
  for (const [index, secret] of good.entries()) {
    t.equal([...secret.normalize('NFC')].length, 15)
    t.equal((await signUp(app, `user${index}`, secret)).statusCode, 201, secret)
    t.equal((await tryLogIn(app, `user${index}`, secret)).statusCode, 200)
    const short = await signUp(app, 'bob', [...secret.normalize('NFC')].slice(1).join('').normalize('NFD'))
    t.match(json(short).errors, [{ pointer: '/password', detail: /at least 15 characters; a few words in a row/ }])
  }
  t.equal((await tryLogIn(app, 'user3', 'àéîõüñçšžåāēīōū')).statusCode, 200, 'and compared after NFC')
  for (const secret of ['', 'x', '1234', 'x'.repeat(14)]) {
    const response = await signUp(app, 'bob', secret)
    t.equal(response.statusCode, 400, secret)
    t.match(json(response).errors, [{ pointer: '/password', detail: /at least 15 characters/ }])
  }
})

onOneStore('256 characters of a password are accepted and wholly used; 257 are refused', async (t, build) => {
  const { app } = await build()
  const phrase = 'the owl and the pussycat went to sea in a beautiful pea-green boat, '
  const secrets = {
    ada: `${phrase.repeat(4).slice(0, 255)}1`,
    bob: `${'😀'.repeat(255)}😁`,
    eve: `${'e\u0301'.repeat(255)}a`,
    zoe: `${'x'.repeat(255)}1`,
  }
  for (const [username, secret] of Object.entries(secrets)) {
    t.equal((await signUp(app, username, secret)).statusCode, 201, username)
    t.equal((await tryLogIn(app, username, secret)).statusCode, 200)
    t.equal((await tryLogIn(app, username, [...secret].slice(0, -1).join(''))).statusCode, 400, 'without the last')
    t.equal(
      (await tryLogIn(app, username, `${[...secret].slice(0, -1).join('')}2`)).statusCode,
      400,
      'with another last',
    )
    t.equal((await tryLogIn(app, username, `${secret}3`)).statusCode, 400, 'with one more')
  }
  for (const secret of [`${secrets.ada}2`, `${secrets.bob}😁`, phrase.repeat(80)]) {
    const response = await signUp(app, 'carol', secret)
    t.equal(response.statusCode, 400)
    t.match(json(response).errors, [{ pointer: '/password', detail: String }])
  }
})

onOneStore(
  'the same passwords are refused at signup, at a change, and when an administrator makes or sets one',
  async (t, build) => {
    const { app } = await build()
    const { id } = json(await signUp(app))
    await giveRoles(storeOf(app), id, ['admin'])
    const { access_token } = json(await postForm(app, '/token', { username: 'ada', password, scope: 'admin' }))
    const call = (method: 'POST' | 'PUT', url: string, payload: object) =>
      withToken(app, access_token, { method, url, payload })
    for (const weak of ['password12345678', 'ada1815ada1815ada', 'qwertyuiopasdfghjkl']) {
      const answers = [
        await signUp(app, 'ada1815', weak),
        await call('POST', '/users/me/password', { current_password: password, new_password: weak }),
        await call('POST', '/admin/users', { username: 'ada1815', password: weak }),
        await call('PUT', `/admin/users/${id}/password`, { password: weak }),
      ]
      for (const answer of answers) {
        t.equal(answer.statusCode, 400, weak)
        t.match(json(answer).errors, [{ pointer: /password$/, detail: String }])
        t.notOk(answer.body.includes(weak), 'and is not repeated')
      }
    }
    t.ok(await logIn(app), 'the password is as it was')
  },
)

const common = /common and breached/
const walk = /keyboard|common and breached/
const repeat = /over and over|keyboard|common and breached/

const weak: [what: string, why: RegExp, passwords: string[]][] = [
  [
    'one character',
    repeat,
    [
      '\u0301'.repeat(15),
      '111111111111111',
      'aaaaaaaaaaaaaaa',
      'ａ'.repeat(20),
      ' '.repeat(15),
      '😀'.repeat(15),
      '.'.repeat(256),
    ],
  ],
  [
    'a short piece again and again',
    repeat,
    ['abcabcabcabcabc', 'xK9#qxK9#qxK9#q', '密码密码密码密码密码密码密码密', 'x1!x1!x1!x1!x1!x1'],
  ],
  ['runs', repeat, ['aaaaabbbbbccccc', '000000011111111', 'aaaaaaaaaaaaaa1', '111222333444555']],
  [
    'rows of keys',
    walk,
    ['qwertyuiopasdfghjkl', 'poiuytrewqlkjhgf', "asdfghjkl;'asdfgh", '!@#$%^&*()_+!@#', 'QwErTyUiOpAsDfG'],
  ],
  [
    'columns of keys',
    walk,
    ['1qaz2wsx3edc4rfv', '!QAZ@WSX#EDC$RFV', '1qaz@WSX3edc$RFV', 'qazwsxedcrfvtgb', '1q2w3e4r5t6y7u8i'],
  ],
  [
    'other keyboards',
    walk,
    [
      'azertyuiopqsdfgh',
      'qwertzuiopasdfgh',
      'yxcvbnmasdfghjkl',
      '789456123789456',
      '147258369147258',
      'йцукенгшщзхъфыва',
    ],
  ],
  [
    'letters and digits in order',
    walk,
    ['abcdefghijklmnop', 'zyxwvutsrqponmlk', 'xyzabcdefghijklm', '123456789012345', '098765432109876'],
  ],
  [
    'steps in order',
    walk,
    ['a1b2c3d4e5f6g7h8', 'acegikmoqsuwyace', 'aabbccddeeffggh', '112233445566778', '가나다라마바사아자차카타파하가'],
  ],
  [
    'an entry with digits',
    common,
    ['password12345678', 'dragon123456789', 'password4821093', 'charlie19870423', 'welcome01011990'],
  ],
  [
    'an entry with years and signs',
    common,
    ['Password!2024!!', 'Summer2024Winter!', 'November2025!!!', '...password2024', '*****password*****'],
  ],
  [
    'an entry again',
    common,
    ['passwordpassword', 'hunter2 hunter2', 'iloveyouiloveyou', 'testing testing 1', 'qwerty!qwerty!1'],
  ],
  [
    'two entries',
    common,
    ['passwordqwerty123', 'monkeydragon1234', 'butterfly sunshine', 'footballbaseball', 'MondayTuesday123'],
  ],
  ['the likeliest three', common, ['dragonmonkeyshadow', 'secret test password', 'my secret password']],
  [
    'leet and accents',
    common,
    ['P4ssw0rdP4ssw0rd', 'P@$$w0rd!2024!!', 'pässwörd1234567', 'l3tm31n l3tm31n', 'ｐａｓｓｗｏｒｄ1234567'],
  ],
  ['backwards', common, ['drowssapdrowssap', 'drowssap12345678', 'nogard2024nogard']],
  ['spelt', common, ['p.a.s.s.w.o.r.d', 'p a s s w o r d 1', 'd-r-a-g-o-n-1-2-3']],
  [
    'padded',
    /common and breached|over and over/,
    ['    password   ', 'hunter2........', '\u200bpassword\u200b\u200b\u200b\u200b\u200b\u200b'],
  ],
  [
    'the long ones of breaches',
    common,
    ['thisismypassword', 'iloveyouforever1', 'mychemicalromance', 'thequickbrownfox', '비밀번호비밀번호1234567'],
  ],
  [
    'the name of the service',
    /service/,
    ['latchkeylatchkey', 'Latchkey-2024-!!', 'acme-auth-acme-auth', 'L4tchk3y12345678', 'yekhctal yekhctal'],
  ],
]

for (const [what, why, passwords] of weak) {
  t.test(`refused as what is tried first: ${what}, NIST SP 800-63B-4 §3.1.1.2`, async (t) => {
    for (const secret of passwords) t.match(await refusalOf(secret), why, secret)
  })
}

t.test(
  'any two entries of the list together are refused, as they are and with a usual end, and one with a year',
  async (t) => {
    const entry = fc.constantFrom(...(dictionary['passwords-common'] as string[]))
    const end = fc.constantFrom('', '1', '7', '!')
    const pairs = fc.tuple(entry, entry, end).map((parts) => parts.join(''))
    const years = fc.tuple(entry, fc.integer({ min: 1950, max: 2030 })).map((parts) => parts.join('').padEnd(15, '!'))
    const texts = fc.oneof(pairs, years).filter(({ length }) => length >= 15)
    await fc.assert(
      fc.asyncProperty(texts, async (text) => (await refusalOf(text)) !== undefined),
      { numRuns: 500 },
    )
    t.pass()
  },
)

t.test('a password is not the username, nor little more', async (t) => {
  for (const [username, secret] of [
    ['adaadaadaadaada', 'adaadaadaadaada'],
    ['ada', 'adaadaadaadaada'],
    ['ada', 'ADAadaAdaADAadaADA'],
    ['ada', 'adaadaadaadaada!'],
    ['ada', 'Ada-Ada-Ada-2024'],
    ['a', 'aaaaaaaaaaaaaaaaa'],
    ['étienne.dupont.1', 'étienne.dupont.1'],
    ['étienne.dupont.1', 'Dupont Etienne 85'],
    ['lovelace', 'Lovelace10121815'],
    ['lovelace', '10v3l4c310v3l4c3'],
    ['lovelace', 'ecalevol ecalevol'],
    ['ada.lovelace@example.com', 'lovelace@example'],
    ['김철수길동', '김철수길동 김철수길동 2024'],
    ['x'.repeat(254), 'x'.repeat(254)],
  ] as const) {
    t.match(await refusalOf(secret, { username }), /username|over and over/, `${username}: ${secret}`)
  }
})

const strong = [
  'correct horse battery staple',
  'correcthorsebatterystaple',
  'correct-horse-battery-staple',
  'another horse, another battery',
  'horse battery staple',
  'second password of ada',
  'the password of somebody else',
  'a long enough password',
  'summer morning coffee',
  'purple monkey dishwasher',
  'I love my dog Rex',
  'my dog has three legs',
  'password managers are a good idea',
  'xkqzvwmfjhtrbpl',
  'gK3-x1Zq8#mW2$vL',
  '}(]%/{*?&~=^<+!',
  '493028175630284',
  'd3b07384d113edec',
  'k7x9q-2m4ph-w8t3z-f6v5c-n2b7d',
  '내 고양이는 밤에만 노래를 부른다',
  '비밀번호는 길수록 좋다고 배웠습니다',
  '吾輩は猫である。名前はまだ無い。',
  'мой кот поёт только ночью',
  'ein langes Passwort ist gut',
  '🦊🍇🎷🛶🧭🪁🌋🥨🧵🦉🏺🪐🎈🧊🐝',
]

t.test('words in a row and random characters are taken, whatever they are made of', async (t) => {
  for (const secret of strong) t.equal(await refusalOf(secret), undefined, secret)
  const words = fc.array(fc.constantFrom(...(dictionary['diceware-common'] as string[])), {
    minLength: 4,
    maxLength: 12,
  })
  const sentences = words
    .map((picked) => picked.join(' '))
    .filter((sentence) => sentence.length >= 15 && sentence.length <= 256)
  await fc.assert(fc.asyncProperty(sentences, async (sentence) => (await refusalOf(sentence)) === undefined))
  for (let times = 0; times < 100; times += 1) t.equal(await refusalOf(randomUUID()), undefined)
})

t.test(
  'where the operator takes 8 characters, what is tried first is refused and what is random is taken',
  async (t) => {
    const by = policyWith({ AUTH_PASSWORD_MIN: '8' })
    for (const secret of [
      'password',
      'PassWord',
      'qwertyuiop',
      'password1',
      'Passw0rd!',
      'dragon12',
      'abcd1234',
      'xkqzxkqz',
      'Summer24',
      'adaada12',
    ])
      t.ok(await refusalOf(secret, { by }), secret)
    for (const secret of ['gK3-x1Zq', 'xkqzvwmf', '48210937', 'pass word of mine', '산토끼 토끼야 어디', 'tin otter'])
      t.equal(await refusalOf(secret, { by }), undefined, secret)
    t.match(await refusalOf('gK3-x1Z', { by }), /at least 8 characters/)
  },
)

t.test('no text makes the policy fail or slow, and what it says never repeats the password', async (t) => {
  const pieces = fc.constantFrom(
    'password',
    'P4ssw0rd!',
    'qwerty',
    '1!|iIl',
    'abc',
    '12',
    'ﷺ',
    '\ufdfa',
    'é',
    '😀',
    ' ',
    '\0',
    'x',
    '密',
    'ada',
    '.',
  )
  const texts = fc.oneof(
    anyText({ minLength: 15, maxLength: 256 }),
    fc
      .array(pieces, { minLength: 15, maxLength: 256 })
      .map((some) => [...some.join('').normalize('NFC')].slice(0, 256).join('')),
  )
  const before = process.cpuUsage()
  const numRuns = 200
  await fc.assert(
    fc.asyncProperty(texts, async (text) => {
      const why = await refusalOf(text)
      return why === undefined || !why.includes(text)
    }),
    { numRuns },
  )
  const { user, system } = process.cpuUsage(before)
  t.ok((user + system) / 1000 / numRuns < 20, 'some milliseconds of work each, at the longest')
})
