import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Webhook } from 'standardwebhooks'
import t, { type Test } from 'tap'
import { ConfigError } from '../../config.ts'
import { readSecret } from '../../domain/webhook-secret.ts'
import { readEndpoints } from '../../plugins/webhooks/endpoints.ts'
import { sign } from '../../plugins/webhooks/signature.ts'
import { newDir } from '../support/helper.ts'

/* AUTH_WEBHOOKS_FILE, and signatures by Standard Webhooks 1.0. */

const newSecret = (bytes = 32) => `whsec_${randomBytes(bytes).toString('base64')}`
const url = 'https://hooks.example.com/latchkey'
/** That no message may hold. */
const canary = 'canary4f3a9d1c6a1f2e3d4c5b0198f3ce4b7e'

async function write(t: Test, content: unknown): Promise<string> {
  const path = join(await newDir(t), 'webhooks.json')
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content))
  return path
}

t.test('what is wrong in the file is told in a line, with the endpoint and never a secret', async (t) => {
  const secret = newSecret()
  const wrong: Record<string, [content: unknown, says: RegExp]> = {
    'no JSON': [`[{"secret": "${canary}"`, /got no JSON/],
    'no array': [{ url, secret: canary }, /the list/],
    'a text': [[canary], /\/0:/],
    'no url': [[{ secret: canary }], /\/0\/url/],
    'a url that is none': [[{ url: canary, secret }], /a URL at \/0\/url/],
    http: [[{ url: `http://hooks.example.com/${canary}`, secret }], /it is http/],
    'a password in the url': [
      [{ url: `https://ada:${canary}@hooks.example.com`, secret }],
      /a user name or a password/,
    ],
    'this machine': [[{ url: `https://localhost/${canary}`, secret }], /localhost is this machine/],
    'a private address': [
      [{ url: `https://10.0.0.1/${canary}`, secret }],
      /10\.0\.0\.1 is no public address.*AUTH_FETCH_ALLOW/,
    ],
    'the metadata of a cloud': [[{ url: 'https://169.254.169.254/latest', secret }], /169\.254\.169\.254/],
    'no secret': [[{ url }], /either secret or secrets for hooks\.example\.com/],
    'a secret and secrets': [[{ url, secret, secrets: [secret] }], /either secret or secrets/],
    'no secret in the list': [[{ url, secrets: [] }], /\/0\/secrets/],
    'a short secret': [[{ url, secret: newSecret(23) }], /24 to 64 bytes/],
    'a long secret': [[{ url, secret: newSecret(65) }], /24 to 64 bytes/],
    'a secret that is no base64': [[{ url, secret: `whsec_${canary}-_!` }], /whsec_ and 24 to 64 bytes in base64/],
    'no events': [[{ url, secret, events: [] }], /\/0\/events/],
    'an event that there is not': [
      [{ url, secret, events: ['user.creatd'] }],
      /"user\.creatd" \(did you mean user\.created\?\)/,
    ],
    'another member': [[{ url, secret, [canary]: 1 }], /\/0\/\?/],
    'the same twice': [
      [
        { url, secret },
        { url: 'https://HOOKS.example.com:443/latchkey', secret },
      ],
      /each URL once only/,
    ],
  }
  for (const [what, [content, says]] of Object.entries(wrong)) {
    const path = await write(t, content)
    try {
      readEndpoints(path)
      t.fail(`${what} was taken`)
    } catch (error) {
      const { message } = error as Error
      t.ok(error instanceof ConfigError, what)
      t.match(message, /^AUTH_WEBHOOKS_FILE: expected [^\n]+$/, what)
      t.match(message, says, what)
      for (const text of [canary, secret.slice(6)]) t.notOk(message.includes(text), `${what}: no secret`)
    }
  }
})

t.test('an endpoint: the events that it wants, and an id that is of its URL', async (t) => {
  const secrets = [newSecret(24), newSecret(64).slice(6)]
  const path = await write(t, [
    { url, secrets },
    { url: 'http://127.0.0.1:8080/', secret: secrets[0], events: ['user.*', 'login.failed'] },
  ])
  const [all, some] = readEndpoints(path, ['127.0.0.1'])
  t.match(all, { id: /^[0-9a-f]{12}$/, events: undefined })
  t.same(
    all?.secrets.map(({ length }) => length),
    [24, 64],
  )
  t.same(
    ['user.created', 'login.failed', 'login.succeeded', 'userx.made'].map((name) => some?.wants(name)),
    [true, true, false, false],
  )
  t.ok(all?.wants('login.succeeded'))
  t.equal(
    readEndpoints(await write(t, [{ url, secret: newSecret() }]))[0]?.id,
    all?.id,
    'another secret is the same endpoint',
  )
})

t.test('a message is one that receivers take, by any of the secrets', async (t) => {
  const secrets = [newSecret(24), newSecret(32), newSecret(64)]
  const message = {
    id: '0198f3ce-4b7e-7f3a-9d1c-6a1f2e3d4c5b',
    at: Date.now(),
    body: '{"type":"user.created","é":"\u2028"}',
  }
  const headers = sign(
    secrets.map((secret) => readSecret(secret) as Buffer),
    message,
  )
  for (const secret of secrets) t.same(new Webhook(secret).verify(message.body, headers), JSON.parse(message.body))
  t.throws(() => new Webhook(newSecret()).verify(message.body, headers), /No matching signature/)
  t.throws(() => new Webhook(secrets[0] as string).verify(`${message.body} `, headers), /No matching signature/)
  t.equal(headers['webhook-timestamp'], String(Math.floor(message.at / 1000)))
  // The example of the specification.
  const known = sign([readSecret('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw') as Buffer], {
    ...{ id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', at: 1614265330_000, body: '{"test": 2432232314}' },
  })
  t.equal(known['webhook-signature'], 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=')
})
