import { createHmac, generateKeyPairSync, randomBytes, verify } from 'node:crypto'
import t from 'tap'
import { createHmacOf } from '../../plugins/keys/hmac.ts'
import { createSigner } from '../../plugins/tokens/signing.ts'
import { createSigningThread, dsaEncoding, hashOf } from '../../plugins/tokens/signing-thread.ts'

const pairs = {
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: generateKeyPairSync('ed25519'),
}
type Alg = keyof typeof pairs
const keyOf = (alg: Alg, kid: string = alg) => ({ kid, alg, privateKey: pairs[alg].privateKey })

/** @returns the claims of a token that is signed by the key of its header */
function read(token: string): { kid: string; typ: string; n: number } {
  const [header = '', payload = '', signature = ''] = token.split('.')
  const part = (text: string) => JSON.parse(Buffer.from(text, 'base64url').toString())
  const { alg, kid, typ } = part(header) as { alg: Alg; kid: string; typ: string }
  const key = { key: pairs[alg].publicKey, dsaEncoding } as const
  const isGood = verify(hashOf(alg), Buffer.from(`${header}.${payload}`), key, Buffer.from(signature, 'base64url'))
  if (!isGood) throw new Error(`the signature of ${JSON.stringify(part(payload))} is wrong`)
  return { kid, typ, ...part(payload) }
}

t.test('tokens of one turn are signed each for itself, one or many, by one key or by several', async (t) => {
  const alone = createSigner(Number.POSITIVE_INFINITY)
  const together = createSigner(0)
  for (const [name, sign] of Object.entries({ alone, together })) {
    for (const count of [1, 2, 50]) {
      const asked = Array.from({ length: count }, (_, n) => sign(keyOf('ES256'), 'at+jwt', { n }))
      const made = (await Promise.all(asked)).map(read)
      t.same(
        made,
        made.map((_, n) => ({ kid: 'ES256', typ: 'at+jwt', n })),
        `${count}, ${name}`,
      )
    }
    const kinds = [keyOf('ES256'), keyOf('EdDSA'), keyOf('ES256', 'next')]
    const asked = Array.from({ length: 30 }, (_, n) => sign(kinds[n % 3] as ReturnType<typeof keyOf>, 'JWT', { n }))
    const made = (await Promise.all(asked)).map(read)
    t.same(
      made,
      made.map((_, n) => ({ kid: kinds[n % 3]?.kid, typ: 'JWT', n })),
      `by several keys, ${name}`,
    )
  }
})

t.test('a signing thread that ends rejects what it has, and the next batch gets another', async (t) => {
  const sign = createSigningThread()
  const broken = { ...keyOf('ES256'), alg: 'ES256', privateKey: pairs.ES256.publicKey } as const
  const texts = ['a', 'b', 'c']
  const first = sign(broken, texts)
  const behind = sign(keyOf('EdDSA'), texts)
  await t.rejects(first)
  await t.rejects(behind)
  const signatures = await sign(keyOf('ES256'), texts)
  for (const [n, text] of texts.entries()) {
    const key = { key: pairs.ES256.publicKey, dsaEncoding } as const
    t.ok(verify('sha256', Buffer.from(text), key, Buffer.from(signatures[n] as string, 'base64url')), text)
  }
})

t.test('a key that cannot sign rejects its tokens, and keeps none of the others', async (t) => {
  const sign = createSigner(0)
  const broken = { ...keyOf('ES256', 'broken'), privateKey: pairs.ES256.publicKey }
  const asked = Array.from({ length: 10 }, (_, n) => sign(n % 2 ? broken : keyOf('ES256'), 'JWT', { n }))
  const made = await Promise.allSettled(asked)
  t.same(
    made.map(({ status }) => status),
    made.map((_, n) => (n % 2 ? 'rejected' : 'fulfilled')),
  )
  await t.rejects(Promise.all(Array.from({ length: 10 }, () => sign(broken, 'JWT', {}))))
  t.ok(read(await sign(keyOf('ES256'), 'JWT', { n: 1 })))
})

t.test('a MAC is HMAC-SHA-256', async (t) => {
  // RFC 4231 §4.2 and §4.3.
  const vectors: [key: Buffer, message: string, mac: string][] = [
    [Buffer.alloc(20, 0x0b), 'Hi There', 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7'],
    [
      Buffer.from('Jefe'),
      'what do ya want for nothing?',
      '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
    ],
  ]
  for (const [key, message, mac] of vectors) t.equal(createHmacOf(key)(Buffer.from(message)).toString('hex'), mac)
  for (let bytes = 0; bytes < 300; bytes += 1) {
    const [key, message] = [randomBytes(bytes % 65), randomBytes(bytes)]
    const expected = createHmac('sha256', key).update(message).digest()
    if (!createHmacOf(key)(message).equals(expected)) t.fail(`of ${bytes} bytes`)
  }
})
