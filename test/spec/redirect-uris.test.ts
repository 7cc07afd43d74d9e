import t from 'tap'
import { isRegistered, redirectUriProblem } from '../../domain/redirect-uri.ts'

const good = [
  'https://app.example.com/callback',
  'https://app.example.com',
  'https://app.example.com:8443/cb?tenant=a&next=%2Fhome',
  'https://xn--bcher-kva.example/cb',
  'https://app.example.com/@ada/cb',
  'https://192.0.2.1/cb',
  'http://localhost:3000/cb',
  'http://127.0.0.1/cb',
  'http://127.0.0.1:8765/',
  'http://[::1]:8765/cb',
  'com.example.app:/oauth2redirect',
  'com.example.app://callback',
]

t.test('https, this device, and private schemes with a dot may be registered', async (t) => {
  for (const uri of good) t.equal(redirectUriProblem(uri), undefined, uri)
})

/* Each is read in two ways by some pair of a server, a browser and a library, or is nobody's own. */
const bad: [uri: string, why: RegExp][] = [
  ['http://app.example.com/cb', /https/],
  ['http://127.0.0.2/cb', /https/],
  ['http://localhost.example.com/cb', /https/],
  ['http://127.0.0.1.example.com/cb', /https/],
  ['http://127.1/cb', /host/],
  ['http://0x7f000001/cb', /host/],
  ['http://2130706433/cb', /host/],
  ['http://[0:0:0:0:0:0:0:1]/cb', /host/],
  ['http://[::ffff:127.0.0.1]/cb', /host/],
  ['http:/127.0.0.1/cb', /host/],
  ['https:app.example.com/cb', /host/],
  ['https:///app.example.com/cb', /host/],
  ['https://', /host/],
  ['https://app.example.com:port/cb', /host/],
  ['https://app.example.com:99999/cb', /host/],
  ['https://app%2eexample.com/cb', /host/],
  ['https://[v1.app]/cb', /host/],
  ['https://app.example.com/cb#', /fragment/],
  ['https://app.example.com/cb#a', /fragment/],
  ['https://ada@app.example.com/cb', /user name/],
  ['https://app.example.com:pw@evil.example/cb', /user name/],
  ['https://@app.example.com/cb', /user name/],
  ['com.example.app://ada@callback', /user name/],
  ['https://app.example.com/../cb', /\.\./],
  ['https://app.example.com/..;/cb', /\.\./],
  ['https://app.example.com/%2e%2E/cb', /\.\./],
  ['https://app.example.com/.%2e/cb', /\.\./],
  ['https://app.example.com\\@evil.example/cb', /backslash/],
  ['https://app.example.com/%5ccb', /backslash/],
  ['https:\\\\app.example.com/cb', /backslash/],
  ['https://app.example.com/%0d%0aset-cookie:a', /control/],
  ['https://app.example.com/%00', /control/],
  ['https://app.example.com/c b', /ASCII/],
  ['https://app.example.com/cb\n', /ASCII/],
  ['\thttps://app.example.com/cb', /ASCII/],
  ['https://app.example.com/\u00e4', /ASCII/],
  ['https://app\u3002example.com/cb', /ASCII/],
  ['https://app.example.com/%zz', /ASCII/],
  ['https://app.example.com/"><script>', /ASCII/],
  ['https://*.example.com/cb', /wildcard/],
  ['https://app.example.com/*', /wildcard/],
  ['javascript:alert(1)', /dot/],
  ['data:text/html,a', /dot/],
  ['file:///etc/passwd', /dot/],
  ['myapp://callback', /dot/],
  ['intent://a', /dot/],
  ['com.example.app:', /behind/],
  ['com.example.app://', /behind/],
  ['.com.example:/cb', /scheme/],
  ['//app.example.com/cb', /scheme/],
  ['/cb', /scheme/],
  ['', /ASCII/],
]

t.test('nothing else may be registered, and the answer says why', async (t) => {
  for (const [uri, why] of bad) t.match(redirectUriProblem(uri), why, JSON.stringify(uri))
})

t.test('a redirect_uri is compared as text', async (t) => {
  const redirectUris = ['https://app.example.com/cb', 'http://localhost:3000/cb', 'https://127.0.0.1/cb']
  const other = [
    'https://app.example.com/cb/',
    'https://app.example.com/cb?a=b',
    'https://app.example.com/CB',
    'https://APP.example.com/cb',
    'https://app.example.com:443/cb',
    'https://app.example.com/%63b',
    'https://app.example.com/x/../cb',
    'https://app.example.com/cb#a',
    'https://app.example.com/cb ',
    'http://app.example.com/cb',
    'http://localhost:3001/cb',
    'https://127.0.0.1:8443/cb',
    '',
  ]
  for (const type of ['public', 'confidential'] as const) {
    for (const uri of redirectUris) t.ok(isRegistered({ type, redirectUris }, uri), uri)
    for (const uri of other) t.notOk(isRegistered({ type, redirectUris }, uri), uri)
    t.notOk(isRegistered({ type }, 'https://app.example.com/cb'), 'a client without any')
  }
})

t.test('an app on this device may have any port of 127.0.0.1 and [::1], where its client is public', async (t) => {
  const redirectUris = ['http://127.0.0.1/cb', 'http://[::1]:1000/cb?a=b']
  const same = [
    'http://127.0.0.1:49152/cb',
    'http://127.0.0.1:1/cb',
    'http://[::1]/cb?a=b',
    'http://[::1]:65535/cb?a=b',
  ]
  for (const uri of same) {
    t.ok(isRegistered({ type: 'public', redirectUris }, uri), uri)
    t.notOk(isRegistered({ type: 'confidential', redirectUris }, uri), `${uri} of a confidential client`)
  }
  const other = [
    'http://127.0.0.1:49152/cb/',
    'http://127.0.0.1:49152',
    'http://127.0.0.1:/cb',
    'http://127.0.0.1:0/cb',
    'http://127.0.0.1:080/cb',
    'http://127.0.0.1:65536/cb',
    'http://127.0.0.1:1@evil.example/cb',
    'http://127.0.0.1:80:80/cb',
    'http://127.0.0.1:80.evil.example/cb',
    'http://127.0.0.1.evil.example/cb',
    'http://localhost:49152/cb',
    'https://127.0.0.1:49152/cb',
    'HTTP://127.0.0.1:49152/cb',
    'http://[::1]:49152/cb',
  ]
  for (const uri of other) t.notOk(isRegistered({ type: 'public', redirectUris }, uri), uri)
})
