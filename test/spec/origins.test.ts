import t from 'tap'
import { originMatcher } from '../../config/origins.ts'
import { readConfig } from '../../config.ts'

const chrome = 'chrome-extension://abcdefghijklmnopabcdefghijklmnop'
const firefox = 'moz-extension://0d5cd5b1-6e7d-4c06-9d9a-b9a6b5b0a0a1'

t.test(
  'AUTH_CORS_ORIGINS takes what browsers send as Origin, RFC 6454 §6.2, and says what they send instead',
  async (t) => {
    const good = [
      ...[
        'https://app.example.com',
        'http://localhost:5173',
        'https://app.example.com:8443',
        'http://127.0.0.1',
        'http://[::1]:3000',
      ],
      ...[
        'https://xn--bcher-kva.example',
        'https://*.example.com',
        'http://*.localhost:5173',
        'https://*.a.b.example.com:444',
      ],
      ...[
        'https://*.mine.pages.dev',
        'capacitor://localhost',
        'ionic://localhost',
        'tauri://localhost',
        'http://tauri.localhost',
      ],
      ...[
        'app://obsidian.md',
        'app://-',
        'com.example.app://localhost',
        'safari-web-extension://0D5CD5B1-6E7D-4C06-9D9A-B9A6B5B0A0A1',
      ],
      ...[chrome, firefox],
    ]
    for (const origin of good) t.same(readConfig({ AUTH_CORS_ORIGINS: origin }).AUTH_CORS_ORIGINS, [origin], origin)
    t.same(readConfig({ AUTH_CORS_ORIGINS: good.join(' , ') }).AUTH_CORS_ORIGINS, good, 'and any number of them')

    const bad: [text: string, why: RegExp][] = [
      ['https://app.example.com/', /without the final slash: https:\/\/app\.example\.com$/],
      ['https://app.example.com/path', /a browser sends https:\/\/app\.example\.com$/],
      ['https://app.example.com?x=1', /a browser sends https:\/\/app\.example\.com$/],
      ['https://app.example.com#top', /a browser sends https:\/\/app\.example\.com$/],
      ['https://ada@app.example.com', /a browser sends https:\/\/app\.example\.com$/],
      ['https://App.example.com', /a browser sends https:\/\/app\.example\.com$/],
      ['HTTPS://app.example.com', /a browser sends https:\/\/app\.example\.com$/],
      ['https:app.example.com', /a browser sends https:\/\/app\.example\.com$/],
      ['https://app.example.com:443', /a browser sends https:\/\/app\.example\.com$/],
      ['http://app.example.com:80', /a browser sends http:\/\/app\.example\.com$/],
      ['https://app.example.com:0443', /a browser sends https:\/\/app\.example\.com$/],
      ['https://bücher.example', /a browser sends https:\/\/xn--bcher-kva\.example$/],
      ['http://0x7f.1', /a browser sends http:\/\/127\.0\.0\.1$/],
      ['http://[0:0::1]', /a browser sends http:\/\/\[::1\]$/],
      ['https://*.Example.com', /a browser sends https:\/\/\*\.example\.com$/],
      ['https://*.example.com/', /final slash: https:\/\/\*\.example\.com$/],
      ['https://*.example.com:443', /a browser sends https:\/\/\*\.example\.com$/],
      ['https://[::1', /no URL$/],
      ['https://app.example.com:65536', /no URL$/],
      ['app.example.com', /no URL$/],
      ['localhost:5173', /no host$/],
      ['*', /every page/],
      ['null', /sandboxed/],
      ['https://*', /leftmost/],
      ['https://*.', /leftmost/],
      ['https://*.com', /anybody can have a name below com$/],
      ['https://*.co.uk', /anybody can have a name below co\.uk$/],
      ['https://*.github.io', /anybody can have a name below github\.io$/],
      ['https://*.10.0.0.1', /no URL with a wildcard$/],
      ['https://*.*.example.com', /leftmost/],
      ['https://app.*.example.com', /leftmost/],
      ['https://pr-*.example.com', /leftmost/],
      ['https://*example.com', /leftmost/],
      ['*.example.com', /leftmost/],
      ['*://app.example.com', /leftmost/],
      ['capacitor://*', /leftmost/],
      ['https://app.example.com:*', /leftmost/],
      ['capacitor://localhost/', /final slash: capacitor:\/\/localhost$/],
      ['Capacitor://localhost', /a browser sends capacitor:\/\/localhost$/],
      ['capacitor://', /no host$/],
      ['capacitor:localhost', /no host$/],
      ['htps://app.example.com', /did you mean https:\/\/|did you mean http:\/\//],
      ['file://', /no browser sends/],
      ['file:///home/ada', /no browser sends/],
      ['wss://app.example.com', /no browser sends/],
      ['data:text/html', /no browser sends/],
      ['chrome-extension://mine', /extension id$/],
      ['moz-extension://mine', /UUID/],
    ]
    for (const [text, why] of bad) {
      t.throws(
        () => readConfig({ AUTH_CORS_ORIGINS: `https://good.example, ${text}` }),
        { message: /^AUTH_CORS_ORIGINS: expected / },
        text,
      )
      t.throws(() => readConfig({ AUTH_CORS_ORIGINS: text }), { message: why }, text)
    }
    for (const text of [
      ',',
      'https://a.example,',
      'https://a.example,,https://b.example',
      'https://a.example https://b.example',
    ])
      t.throws(
        () => readConfig({ AUTH_CORS_ORIGINS: text }),
        { message: /^AUTH_CORS_ORIGINS: expected a comma-separated list/ },
        text,
      )
  },
)

t.test(
  'AUTH_WEBAUTHN_ORIGINS takes what authenticators sign, WebAuthn §5.8.1; the default is that of the issuer',
  (t) => {
    const app = 'android:apk-key-hash:sYUC8p5I9SxqFernBPHmDxz_YVZXmVJdW8s-m3RTTqE'
    const good = [
      ...[
        'https://app.example.com',
        'https://app.example.com:8443',
        'http://localhost:5173',
        'http://app.localhost:5173',
      ],
      ...[app, chrome, firefox],
    ]
    t.same(readConfig({ AUTH_WEBAUTHN_ORIGINS: good.join(', ') }).AUTH_WEBAUTHN_ORIGINS, good)
    const ofIssuer = (issuer: string) => readConfig({ AUTH_ISSUER: issuer }).AUTH_WEBAUTHN_ORIGINS
    t.same(ofIssuer('https://auth.example.com/tenant'), ['https://auth.example.com'])
    t.same(readConfig({ PORT: '4000' }).AUTH_WEBAUTHN_ORIGINS, ['http://localhost:4000'])

    const bad: [text: string, why: RegExp][] = [
      ['https://*.example.com', /without wildcards$/],
      ['https://app.example.com/', /without the final slash: https:\/\/app\.example\.com$/],
      ['https://App.example.com', /a browser sends https:\/\/app\.example\.com$/],
      ['http://app.example.com', /https only, and on localhost$/],
      ['http://notlocalhost', /https only, and on localhost$/],
      ['https://192.0.2.7', /not for addresses$/],
      ['http://127.0.0.1:3000', /not for addresses$/],
      ['http://[::1]:3000', /not for addresses$/],
      ['capacitor://localhost', /no passkey is used on capacitor:\/\/$/],
      ['app.example.com', /no URL$/],
      ['null', /sandboxed/],
      ['*', /without wildcards$/],
      ['android:apk-key-hash:', /43 characters$/],
      ['android:apk-key-hash:B1:85:02:F2:9E:48', /43 characters$/],
      [`${app}=`, /43 characters$/],
      [app.replace('apk-key-hash', 'apk-key-hash-sha1'), /no host$|no browser|no URL$/],
    ]
    for (const [text, why] of bad)
      t.throws(
        () => readConfig({ AUTH_WEBAUTHN_ORIGINS: `https://good.example, ${text}` }),
        { message: new RegExp(`^AUTH_WEBAUTHN_ORIGINS: expected .*(${why.source})`) },
        text,
      )
    t.end()
  },
)

t.test('an origin is matched as a whole; a wildcard stands for one label or more', async (t) => {
  const isAllowed = originMatcher([
    'https://app.example.com',
    'https://*.example.org',
    'http://*.localhost:5173',
    'capacitor://localhost',
    chrome,
  ])
  const yes = [
    'https://app.example.com',
    'https://a.example.org',
    'https://pr-7.a_b.example.org',
    'http://x.localhost:5173',
    chrome,
  ]
  for (const origin of [...yes, 'capacitor://localhost']) t.ok(isAllowed(origin), origin)
  const no = [
    ...[
      'http://app.example.com',
      'https://app.example.com:8443',
      'https://app.example.com.evil.example',
      'https://APP.example.com',
    ],
    ...[
      'https://example.org',
      'https://.example.org',
      'https://..example.org',
      'https://a..example.org',
      'https://evilexample.org',
    ],
    ...[
      'https://a.example.org:8443',
      'http://a.example.org',
      'https://a.example.org.evil.example',
      'https://evil.example/.example.org',
    ],
    ...[
      'https://evil.example#.example.org',
      'https://ada@.example.org',
      'https://evil.example:80.example.org',
      'https://*.example.org',
    ],
    ...[
      'http://x.localhost',
      'http://x.localhost:51730',
      'capacitor://localhost.evil',
      'null',
      '',
      '*',
      'chrome-extension://mine',
    ],
  ]
  for (const origin of no) t.notOk(isAllowed(origin), origin)
})
