import { generateKeyPairSync } from 'node:crypto'
import Fastify from 'fastify'
import t from 'tap'
import { readConfig } from '../../config.ts'
import type { Passkey } from '../../domain/factor.ts'
import passkeys, { type Passkeys } from '../../plugins/factors/passkeys.ts'
import { type Algorithm, createAuthenticator, type Lies, makeKey } from '../support/authenticator.ts'
import { onOneApp } from '../support/helper.ts'

const ada = { id: '0d5cd5b1-6e7d-4c06-9d9a-b9a6b5b0a0a1', username: 'ada' }
const challenge = 'lkp_the-secret-of-a-record'
const refused = { wrong: /./ }
const zeros = '00000000-0000-0000-0000-000000000000'

type Device = ReturnType<typeof createAuthenticator>

const onPasskeys = onOneApp(async (_, build) => {
  const { app } = await build({ AUTH_WEBAUTHN_ORIGINS: 'http://localhost:3000, http://localhost:5173' })
  return app.passkeys
})

/** Registers the device's next passkey. */
async function register(passkeys: Passkeys, device: Device, lies: Lies = {}) {
  const options = await passkeys.creationOptions(ada, { challenge, known: [] })
  return passkeys.register(device.create(options, lies), challenge)
}

async function enrol(passkeys: Passkeys, device: Device): Promise<Passkey> {
  const registered = await register(passkeys, device)
  if ('wrong' in registered) throw new Error(registered.wrong)
  return { ...registered.good, id: 'its-id', kind: 'webauthn', createdAt: 0 }
}

async function signIn(passkeys: Passkeys, device: Device, passkey: Passkey, lies: Lies = {}) {
  const options = await passkeys.requestOptions({ challenge, allowed: [passkey] })
  return passkeys.verify(passkey, device.get(options, lies), challenge)
}

onPasskeys('creation options ask for a discoverable credential that verifies its user', async (t, passkeys) => {
  const known = await enrol(passkeys, createAuthenticator())
  const options = await passkeys.creationOptions(ada, { challenge, known: [known] })
  t.match(options, {
    rp: { id: 'localhost', name: 'localhost:3000' },
    user: { id: Buffer.from(ada.id).toString('base64url'), name: 'ada', displayName: 'ada' },
    challenge: Buffer.from(challenge).toString('base64url'),
    attestation: 'none',
    authenticatorSelection: { residentKey: 'required', requireResidentKey: true, userVerification: 'required' },
    excludeCredentials: [{ id: known.credentialId, type: 'public-key', transports: ['internal', 'hybrid'] }],
  })
  t.same(
    options.pubKeyCredParams.map(({ alg }) => alg),
    [-7, -8, -257],
    'ES256, EdDSA, RS256',
  )
})

onPasskeys(
  'request options require user verification, and name the credentials of a known user',
  async (t, passkeys) => {
    const known = await enrol(passkeys, createAuthenticator())
    const options = await passkeys.requestOptions({ challenge, allowed: [known] })
    t.match(options, {
      rpId: 'localhost',
      userVerification: 'required',
      allowCredentials: [{ id: known.credentialId }],
    })
    const { allowCredentials } = await passkeys.requestOptions({ challenge, allowed: [] })
    t.same(allowCredentials, [], 'and of nobody else: the device has those of the service')
  },
)

for (const algorithm of ['ES256', 'EdDSA', 'RS256'] as Algorithm[]) {
  onPasskeys(`a passkey is registered, and signs in with its next count [${algorithm}]`, async (t, passkeys) => {
    const device = createAuthenticator({ algorithm, aaguid: 'fbfc3007-154e-4ecc-8c0b-6e020557d7bd' })
    const passkey = await enrol(passkeys, device)
    t.match(passkey, {
      name: 'Apple Passwords',
      credentialId: device.credentials[0]?.id,
      counter: 1,
      transports: ['internal', 'hybrid'],
      isBackupEligible: false,
      isBackedUp: false,
    })
    const options = await passkeys.requestOptions({ challenge, allowed: [] })
    const response = device.get(options)
    t.same(passkeys.credentialOf(response), { credentialId: passkey.credentialId, userId: ada.id })
    t.same(await passkeys.verify(passkey, response, challenge), { good: { ...passkey, counter: 2 } })
  })
}

onPasskeys('a passkey may be used at each of the origins, and say that it is backed up', async (t, passkeys) => {
  const device = createAuthenticator({ origin: 'http://localhost:5173', isBackupEligible: true, counts: false })
  const passkey = await enrol(passkeys, device)
  t.match(passkey, { name: 'Passkey', aaguid: zeros, isBackupEligible: true, isBackedUp: true })
  t.match(await signIn(passkeys, device, passkey, { isBackedUp: false }), { good: { isBackedUp: false } })
})

onPasskeys('an attestation that nobody asked for is not believed, and names nothing to fetch', async (t, passkeys) => {
  for (const format of ['packed', 'apple', 'fido-u2f', 'unheard-of']) {
    const statement = new Map<string, unknown>([
      ['alg', -7],
      ['sig', new Uint8Array(8)],
      ['x5c', [new Uint8Array(9)]],
    ])
    t.match(
      await register(passkeys, createAuthenticator(), { attestation: { format, statement } }),
      { good: {} },
      format,
    )
  }
})

/** What is wrong with a message of either ceremony, and the reason that is logged. */
const wrong: [what: string, lies: Lies, reason: RegExp][] = [
  ['of another site', { origin: 'https://evil.example' }, /origin "https:\/\/evil\.example"/],
  ['of another port', { origin: 'http://localhost:3001' }, /origin/],
  ['of a name that only begins alike', { origin: 'http://localhost:3000.evil.example' }, /origin/],
  ['for another rpId', { rpId: 'evil.example' }, /RP ID/],
  ['for a subdomain of the rpId', { rpId: 'auth.localhost' }, /RP ID/],
  ['by a user who was not verified', { isVerified: false }, /could not be verified/],
  ['by a user who was not there', { isPresent: false }, /not present/],
  ['to another challenge', { challenge: Buffer.from('lkp_of-a-neighbour').toString('base64url') }, /challenge/],
  ['to no challenge', { challenge: '' }, /challenge/],
  ['in a frame of another origin', { crossOrigin: true }, /frame/],
  ['in a frame whose top is told', { topOrigin: 'https://evil.example' }, /top ?origin|frame/i],
  ['backed up, though it cannot be', { isBackedUp: true }, /backed up/],
  ['with bytes behind its end', { authenticatorData: (data) => Buffer.concat([data, Buffer.alloc(3)]) }, /./],
  ['cut off', { authenticatorData: (data) => data.subarray(0, 36) }, /37 bytes/],
]

onPasskeys('a registration is refused', async (t, passkeys) => {
  const { key: _, publicKey: rsa } = makeKey('RS256', 1024)
  const es256 = makeKey('ES256').publicKey
  const ofRegistration: typeof wrong = [
    ...wrong,
    ['that is a sign-in', { type: 'webauthn.get' }, /type/],
    ['with an id that is not its credential’s', { id: 'AAAA' }, /another than that of its credential/],
    ['with an algorithm that nobody asked for', { publicKey: new Map(es256).set(3, -35) }, /alg/],
    ['with no algorithm', { publicKey: new Map([...es256].filter(([member]) => member !== 3)) }, /alg/],
    ['with ES256 for an RSA key', { publicKey: new Map(makeKey('RS256').publicKey).set(3, -7) }, /./],
    ['with a point that is on no curve', { publicKey: new Map(es256).set(-3, new Uint8Array(32)) }, /./],
    ['with a key of 1024 bits', { publicKey: rsa }, /1024 bits/],
    ['with a key of 100,000 bits', { publicKey: new Map(rsa).set(-1, new Uint8Array(12_500).fill(0xff)) }, /bits/],
  ]
  for (const [what, lies, reason] of ofRegistration) {
    t.match(await register(passkeys, createAuthenticator(), lies), { wrong: reason }, what)
  }
  const options = await passkeys.creationOptions(ada, { challenge, known: [] })
  const device = createAuthenticator()
  const response = device.create(options)
  t.match(await passkeys.register(response, 'lkp_of-a-neighbour'), refused, 'to the challenge of somebody else')
  t.match(
    await passkeys.register(device.get(await passkeys.requestOptions({ challenge, allowed: [] })), challenge),
    refused,
    'that is the message of a sign-in',
  )
})

onPasskeys('a sign-in is refused', async (t, passkeys) => {
  const device = createAuthenticator()
  const passkey = await enrol(passkeys, device)
  const another = createAuthenticator()
  const foreign = await enrol(passkeys, another)
  const ofSignIn: typeof wrong = [
    ...wrong,
    ['that is a registration', { type: 'webauthn.create' }, /type/],
    ['by another key', { key: makeKey('ES256').key }, /signature/],
    ['by a key of another kind', { key: generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey }, /./],
    ['with no signature', { signature: Buffer.alloc(0) }, /./],
    ['with the signature of nothing', { signature: Buffer.from('3006020100020100', 'hex') }, /signature/],
    ['that may be backed up suddenly', { isBackupEligible: true }, /backed up has changed/],
    ['of another credential', { id: foreign.credentialId }, /another credential/],
  ]
  for (const [what, lies, reason] of ofSignIn) {
    t.match(await signIn(passkeys, device, passkey, lies), { wrong: reason }, what)
  }
  const response = another.get(await passkeys.requestOptions({ challenge, allowed: [] }), { id: passkey.credentialId })
  t.match(await passkeys.verify(passkey, response, challenge), refused, 'by a foreign key under the id of ours')
  const good = device.get(await passkeys.requestOptions({ challenge, allowed: [] }))
  t.match(await passkeys.verify(passkey, good, 'lkp_of-a-neighbour'), refused, 'to the challenge of somebody else')
  t.match(await passkeys.verify(passkey, good, challenge), { good: {} }, 'and is good otherwise')
})

onPasskeys('a counter that does not rise is told as a copy, and only behind a right signature', async (t, passkeys) => {
  const device = createAuthenticator()
  const passkey = { ...(await enrol(passkeys, device)), counter: 7 }
  for (const counter of [7, 6, 1, 0])
    t.match(
      await signIn(passkeys, device, passkey, { counter }),
      { isCloned: true, wrong: /counter/ },
      `${counter} behind 7, WebAuthn §7.2`,
    )
  t.match(await signIn(passkeys, device, passkey, { counter: 8 }), { good: { counter: 8 } })
  t.match(await signIn(passkeys, device, passkey, { counter: 0xffffffff }), { good: { counter: 0xffffffff } })
  const { key } = makeKey('ES256')
  t.same(
    await signIn(passkeys, device, passkey, { counter: 7, key }),
    { wrong: 'its signature is wrong' },
    'no stranger has it told',
  )
  t.match(
    await signIn(passkeys, device, { ...passkey, counter: 0 }, { counter: 0 }),
    { good: { counter: 0 } },
    'it need not count',
  )
})

onPasskeys('whatever is no message of a passkey is refused, and fails nothing', async (t, passkeys) => {
  const device = createAuthenticator()
  const passkey = await enrol(passkeys, device)
  const created = device.create(await passkeys.creationOptions(ada, { challenge, known: [] }))
  const signedIn = device.get(await passkeys.requestOptions({ challenge, allowed: [passkey] }))
  const deep = Buffer.concat([Buffer.from('a3', 'hex'), Buffer.alloc(12_000, 0x81)]).toString('base64url')
  const huge = 'A'.repeat(16_000)
  const values = [undefined, null, 7, '', '\0', '{}', huge, deep, [], {}, { length: 3 }, '!!!', '\ud800']
  /** A message with each member that is verified in the place of another value. */
  const spoilt = (message: object, members: string[]) =>
    members.flatMap((member) => values.map((value) => ({ ...message, [member]: value })))
  const malformed: unknown[] = [...values, { id: passkey.credentialId }, { response: signedIn.response }]
  for (const message of [created, signedIn]) {
    const { attestationObject, ...signed } = { attestationObject: undefined, ...message.response }
    const verified = attestationObject ? ['attestationObject'] : ['authenticatorData', 'signature']
    malformed.push(...spoilt(message, ['id', 'rawId', 'type', 'response']))
    for (const response of spoilt({ attestationObject, ...signed }, ['clientDataJSON', ...verified]))
      malformed.push({ ...message, response })
  }
  const startedAtMs = performance.now()
  for (const given of malformed) {
    const text = JSON.stringify(given)?.slice(0, 200)
    t.doesNotThrow(() => passkeys.credentialOf(given), text)
    t.match(await passkeys.register(given, challenge), refused, text)
    t.match(await passkeys.verify(passkey, given, challenge), refused, text)
  }
  t.ok(performance.now() - startedAtMs < 10_000, 'and none takes long')
  t.match(await passkeys.register(created, challenge), { good: {} })
  t.match(await passkeys.verify(passkey, signedIn, challenge), { good: {} })
})

onPasskeys('a message names its credential, and a user only where it has a handle', async (t, passkeys) => {
  const handle = (text: unknown) => ({ id: 'AAAA', response: { userHandle: text } })
  const none = { credentialId: 'AAAA', userId: undefined }
  t.same(passkeys.credentialOf({ id: 'AAAA', response: {} }), none)
  t.same(passkeys.credentialOf(handle(null)), none)
  t.same(passkeys.credentialOf(handle(Buffer.from(ada.id).toString('base64url'))), { ...none, userId: ada.id })
  for (const text of ['', 'ada', '\0', ada.id.toUpperCase()])
    t.equal(passkeys.credentialOf(handle(Buffer.from(text).toString('base64url'))), undefined, JSON.stringify(text))
})

onPasskeys('transports are kept as hints, and nothing else in their place', async (t, passkeys) => {
  const device = createAuthenticator()
  const created = device.create(await passkeys.creationOptions(ada, { challenge, known: [] }))
  for (const [given, kept] of [
    [
      ['usb', 'nfc'],
      ['usb', 'nfc'],
    ],
    [['usb', 7, null, 'U$B', 'x'.repeat(200)], ['usb']],
    [Array(1000).fill('ble'), Array(8).fill('ble')],
    ['usb', []],
    [undefined, []],
  ] as [unknown, string[]][]) {
    const response = { ...created, response: { ...created.response, transports: given } }
    t.match(await passkeys.register(response, challenge), { good: { transports: kept } })
  }
})

t.test('passkeys are of the host of AUTH_ISSUER, and are off where that is an address', async (t) => {
  const passkeysOf = async (issuer: string) => {
    const app = Fastify()
    app.decorate('config', readConfig({ AUTH_ISSUER: issuer }))
    await app.register(passkeys)
    return app.passkeys
  }
  for (const issuer of ['https://auth.example.com/tenant', 'http://localhost:3000', 'http://auth'])
    t.match(await passkeysOf(issuer), { isOn: true, whyOff: undefined }, issuer)
  const { rpId } = await (await passkeysOf('https://auth.example.com:8443/a')).requestOptions({
    challenge,
    allowed: [],
  })
  t.equal(rpId, 'auth.example.com')
  for (const issuer of ['http://127.0.0.1:3000', 'https://[::1]', 'http://10.0.0.7/auth']) {
    const { isOn, whyOff } = await passkeysOf(issuer)
    t.notOk(isOn)
    t.match(whyOff, `the host of AUTH_ISSUER is an address, ${new URL(issuer).hostname}, and passkeys are of a name`)
  }
})
