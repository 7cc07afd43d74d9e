import fc from 'fast-check'
import t from 'tap'
import { isEmail, mapEmail, toMailedEmail } from '../../domain/emails.ts'
import { anyText } from '../support/any-text.ts'

const good: Record<string, string> = {
  'Ada@Example.com': 'ada@example.com',
  "o'brien+1@x.example": "o'brien+1@x.example",
  "!#$%&'*+/=?^_`{|}~-@x.example": "!#$%&'*+/=?^_`{|}~-@x.example",
  'a@localhost': 'a@localhost',
  'a@Bücher.example': 'a@xn--bcher-kva.example',
  'a@bu\u0308cher.example': 'a@xn--bcher-kva.example',
  'a@XN--Bcher-KVA.example': 'a@xn--bcher-kva.example',
  'a@ｅｘample.com': 'a@example.com',
  'a@example.\u212aom': 'a@example.kom',
  'a@한국.kr': 'a@xn--3e0b707e.kr',
  'a@straße.example': 'a@xn--strae-oqa.example',
  'a@STRAẞE.example': 'a@xn--strae-oqa.example',
  'a@strasse.example': 'a@strasse.example',
  'a@ΒΌΛΟΣ.example': 'a@xn--nxasmq6b.example',
  'a@βόλος.example': 'a@xn--nxasmm1c.example',
  'a@mıcro.example': 'a@xn--mcro-lza.example',
  [`a@${'b'.repeat(63)}.example`]: `a@${'b'.repeat(63)}.example`,
  [`${'a'.repeat(242)}@example.com`]: `${'a'.repeat(242)}@example.com`,
}

const bad: Record<string, string> = {
  'no @': 'ada',
  'no local part': '@x',
  'no domain': 'a@',
  'a space': 'a b@x',
  'two @': 'a@b@c',
  'a hyphen first': 'a@-x',
  'a hyphen last': 'a@x-',
  'two dots in the domain': 'a@x..y',
  'a dot last': 'a@x.example.',
  'an underline in the domain': 'a@x_y.example',
  'a quoted local part': '"a"@x',
  'a comment': 'a(b)@x',
  'a name': 'Ada <a@x>',
  'a list': 'a@x,b@x',
  'a port': 'a@x:25',
  'an address of a machine in brackets': 'a@[192.0.2.1]',
  'five numbers': 'a@1.2.3.4.5',
  'a line end': 'a@x\n',
  'a header': 'a@x\r\nBcc: b@x',
  NUL: 'a\0@x',
  'a wide @': 'a＠x.example',
  'a letter of the local part that is mapped to ASCII': 'ﬁne@x.example',
  'the sign of kelvin in the local part': '\u212aate@x.example',
  'a long s in the local part': 'ſam@x.example',
  'a dotless i in the local part': 'mıke@x.example',
  'another script in the local part': 'аda@x.example',
  'a label of 64': `a@${'b'.repeat(64)}.example`,
  'a label that is longer in ASCII': `a@${'ü'.repeat(63)}.example`,
  '255 octets': `${'a'.repeat(243)}@example.com`,
  'no Punycode': 'a@xn--a.example',
  'a mark first': 'a@\u0301a.example',
  // One letter, and eighteen when mapped, with spaces among them.
  'a letter that is words': 'a@\ufdfa',
}

t.test('an address is local@domain in at most 254 octets, and its domain is compared as the DNS has it', async (t) => {
  for (const [email, key] of Object.entries(good)) {
    t.ok(isEmail(email), email)
    t.equal(mapEmail(email), key, email)
    const isAscii = Buffer.byteLength(email) === email.length
    t.equal(toMailedEmail(email), isAscii ? email : key, 'it is mailed to as it is typed, or else as the DNS has it')
  }
  for (const [what, text] of Object.entries(bad)) t.notOk(isEmail(text), what)
})

const likely = fc.string({ unit: fc.constantFrom(...'aZßẞİıΣςŉﬁＡ１½K.-@xn', '\u0301', '\u212a', '가'), maxLength: 12 })

t.test('of any text: what maps to an address is one in ASCII, and mapping it again changes nothing', async () => {
  const texts = fc.tuple(fc.constantFrom('a@', 'A.b+c@', '', 'ﬁ@'), fc.oneof(likely, anyText({ maxLength: 12 })))
  fc.assert(
    fc.property(texts, ([local, domain]) => {
      const email = local + domain
      if (!isEmail(email)) return true
      const key = mapEmail(email)
      return (
        /^[\x21-\x7e]+$/.test(key) && isEmail(key) && mapEmail(key) === key && mapEmail(toMailedEmail(email)) === key
      )
    }),
    { numRuns: 5_000 },
  )
})
