import { HOTP, Secret, URI } from 'otpauth'
import decodeQr from 'qr/decode.js'
import t from 'tap'
import { hashRecoveryCode, makeRecoveryCodes } from '../../plugins/factors/recovery-codes.ts'
import { newTotpSecret, qrOf, totpStep, totpUri } from '../../plugins/factors/totp.ts'

/** the key of the test values of both RFCs, "12345678901234567890" */
const secret = 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ'

t.test('the codes of RFC 6238, Appendix B, are right in their steps, and one step beside them', async (t) => {
  const codes = {
    59: '287082',
    1111111109: '081804',
    1111111111: '050471',
    1234567890: '005924',
    2000000000: '279037',
    20000000000: '353130',
  }
  for (const [seconds, code] of Object.entries(codes)) {
    const step = Math.floor(Number(seconds) / 30)
    const at = (shift: number, after = -1) => totpStep({ secret, code, now: (Number(seconds) + shift) * 1000, after })
    for (const shift of [-30, 0, 30]) t.equal(at(shift), step, `${seconds} s, ${shift} s off`)
    for (const shift of [-60, 60]) t.equal(at(shift), undefined, `${seconds} s, ${shift} s off`)
    t.equal(at(0, step - 1), step)
    t.equal(at(0, step), undefined, 'its step has been taken')
    t.equal(at(-30, step + 1), undefined, 'one after it has been taken')
  }
})

t.test('the codes of RFC 4226, Appendix D, are those of the first ten steps', async (t) => {
  const codes = '755224 287082 359152 969429 338314 254676 287922 162583 399871 520489'.split(' ')
  t.same(
    codes.map((code, step) => totpStep({ secret, code, now: step * 30_000, after: -1 })),
    codes.map((_, step) => step),
  )
})

t.test('a code is six ASCII digits; spaces in it mean nothing', async (t) => {
  const stepOf = (code: string) => totpStep({ secret, code, now: 59_000, after: -1 })
  for (const code of ['287082', '287 082', ' 287082 ']) t.equal(stepOf(code), 1, code)
  const others = {
    full: '２８７０８２',
    arabic: '٢٨٧٠٨٢',
    mixed: '28708２',
    sign: '+287082',
    number: '287082.0',
    hex: '0x4616A',
  }
  for (const [name, code] of Object.entries({
    ...others,
    none: '',
    short: '28708',
    long: '2870820',
    many: '1'.repeat(9999),
  }))
    t.equal(stepOf(code), undefined, name)
})

t.test('a step that a wrong clock has taken locks nobody out until it is there', async (t) => {
  const now = Date.UTC(2026, 10, 26)
  const step = now / 30_000
  const code = HOTP.generate({ secret: Secret.fromBase32(secret), counter: step })
  t.equal(totpStep({ secret, code, now, after: step + 2 }), undefined, 'clocks may differ by a minute')
  t.equal(totpStep({ secret, code, now, after: step + 2880 }), step, 'a day ahead')
})

t.test('a secret has 160 random bits, and comes as a key URI that apps read, and as a QR code of it', async (t) => {
  const made = newTotpSecret()
  t.match(made, /^[A-Z2-7]{32}$/)
  t.not(newTotpSecret(), made)
  for (const [issuer, account] of [
    ['Latchkey', 'ada@example.com'],
    ['localhost:3000', 'o’brien & søn?secret=A#+%'],
    ['한국', 'a'.repeat(254)],
  ] as const) {
    const uri = totpUri({ secret: made, issuer, account })
    const url = new URL(uri)
    t.equal(`${url.protocol}//${url.host}`, 'otpauth://totp')
    t.same(Object.fromEntries(url.searchParams), {
      secret: made,
      issuer: issuer.replace(':', ' '),
      algorithm: 'SHA1',
      digits: '6',
      period: '30',
    })
    t.equal(decodeURIComponent(url.pathname.slice(1)), `${issuer.replace(':', ' ')}:${account}`)
    t.equal(URI.parse(uri).toString(), uri)
    t.equal(scan(await qrOf(uri)), uri)
  }
})

t.test('recovery codes are ten of 80 random bits, and known however they are typed, for their user only', async (t) => {
  const codes = makeRecoveryCodes()
  t.equal(new Set([...codes, ...makeRecoveryCodes()]).size, 20)
  for (const code of codes) t.match(code, /^[A-Z2-7]{4}(-[A-Z2-7]{4}){3}$/)
  const [code = '', other = ''] = codes
  const hash = hashRecoveryCode('ada', code)
  t.match(hash, /^[\w-]{43}$/)
  for (const typed of [code.toLowerCase(), code.replaceAll('-', ''), ` ${code.replaceAll('-', ' – ')}\n`])
    t.equal(hashRecoveryCode('ada', typed), hash, typed)
  for (const wrong of [other, '', code.slice(0, -1), `${code}A`]) t.not(hashRecoveryCode('ada', wrong), hash, wrong)
  t.not(hashRecoveryCode('bob', code), hash)
})

/** Reads a QR code as a camera does that sees nothing but its picture. */
function scan(svg: string): string {
  const scale = 4
  const size = Number(/^<svg [^>]*viewBox="0 0 (\d+) \1"/.exec(svg)?.[1]) * scale
  const data = new Uint8Array(size * size * 4).fill(255)
  for (const bar of svg.matchAll(/M(\d+) (\d+)h(\d+)v1h-\3z/g)) {
    const [x = 0, y = 0, width = 0] = bar.slice(1).map((text) => Number(text) * scale)
    for (let row = y; row < y + scale; row++)
      for (let column = x; column < x + width; column++)
        data.fill(0, (row * size + column) * 4, (row * size + column) * 4 + 3)
  }
  return decodeQr({ width: size, height: size, data })
}
