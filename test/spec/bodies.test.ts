import type { InjectOptions, LightMyRequestResponse } from 'fastify'
import { isPage } from '../support/browser.ts'
import { basic, makeClient, tokenOf } from '../support/client-helper.ts'
import { logIn, onOneStore, signUp } from '../support/helper.ts'
import { mailsInto } from '../support/mail.ts'

/*
 * Bodies that are not what a route is for: every route of the app, met with each of them, answers 4xx in the shape of
 * its family.
 */

const form = 'application/x-www-form-urlencoded'
const jsonType = 'application/json'

/** Every body that nobody meant to send. */
const bodies: [what: string, type: string | undefined, payload: string | undefined][] = [
  ['no body', undefined, undefined],
  ['no body, of a type', jsonType, undefined],
  ['no body, of the form type', form, undefined],
  ['an empty body', undefined, ''],
  ['an empty JSON body', jsonType, ''],
  ['an empty form', form, ''],
  ['a text without a type', undefined, 'x'],
  ['a text with an empty type', '', 'x'],
  ['a plain text', 'text/plain', 'x'],
  ['no media type', 'nonsense', 'x'],
  ['another type', 'application/octet-stream', '\0\x01'],
  ['XML', 'application/xml', '<a/>'],
  ['multipart', 'multipart/form-data; boundary=x', '--x--\r\n'],
  ['multipart without a boundary', 'multipart/form-data', '--x--\r\n'],
  ['null', jsonType, 'null'],
  ['true', jsonType, 'true'],
  ['a list', jsonType, '[]'],
  ['a list of lists', jsonType, '[[]]'],
  ['a text', jsonType, '"text"'],
  ['a number', jsonType, '1'],
  ['cut JSON', jsonType, '{"username":"a'],
  ['white space', jsonType, ' '],
  ['a form said to be JSON', jsonType, 'grant_type=password'],
  ['JSON said to be a form', form, '{"grant_type":"password"}'],
  ['an empty object', jsonType, '{}'],
  ['an object of lists', jsonType, '{"username":[],"password":{},"refresh_token":null}'],
  ['JSON in another charset', `${jsonType}; charset=latin1`, '{"username":"\xe9"}'],
  ['a form in another charset', `${form};charset="ISO-8859-1"`, 'username=%E9'],
]

/** For `GET` and `HEAD`, whose bodies Fastify does not read. */
const unread = bodies.filter((_, at) => at % 5 === 0)

/** The routes that a request with these bodies may succeed at, for they do without one. */
const withoutBody = (method: string, url: string) =>
  method === 'GET' ||
  method === 'HEAD' ||
  // Redirects: to the same by GET, with what is in the form, and to /sign-in for whoever is not signed in.
  /^POST \/(authorize|sign-out)$|^POST \/account\//.test(`${method} ${url}`) ||
  /^(DELETE|POST) \/(admin\/(users|clients|sessions|keys)\/:|users\/me\/(sessions|factors\/(totp|recovery-codes|passkeys\/options)$)|logout|admin\/keys\/rotate|admin\/invitations)/.test(
    `${method} ${url}`,
  )

function whatIsWrong(
  { statusCode, headers, body }: LightMyRequestResponse,
  { url, method, family }: { url: string; method: string; family: string | undefined },
) {
  if (statusCode >= 500) return `${statusCode} ${body}`
  if (statusCode < 400 || method === 'HEAD') return undefined
  if (isPage(url)) return headers['content-type'] === 'text/html; charset=utf-8' ? undefined : `${statusCode} ${body}`
  const type = family === 'oauth' ? 'application/json; charset=utf-8' : 'application/problem+json; charset=utf-8'
  if (headers['content-type'] !== type) return `${statusCode} as ${headers['content-type']}`
  const parsed = JSON.parse(body)
  if (family === 'oauth' ? typeof parsed.error !== 'string' : parsed.status !== statusCode)
    return `${statusCode} ${body}`
  return undefined
}

onOneStore(
  'any body at any route is a 4xx in the shape of its family, or is not needed there: never a 5xx, contract §4',
  async (t, build) => {
    const { app, logs } = await build(await mailsInto(t))
    await signUp(app)
    const client = await makeClient(app, { id: 'orders', scopes: ['admin'], introspect: 'all' })
    const ofAdmin = await tokenOf(app, client, { scope: 'admin' })
    const { headers: ofClient } = basic(client)
    let ofUser = ''
    const wrong: string[] = []
    const routes = [...app.knownPaths].flatMap(([url, { methods, family }]) =>
      [...methods].map((method) => ({ url, method, family })),
    )
    t.ok(routes.length > 50, 'the routes are found')
    for (const { method, url, family } of routes) {
      if (url.includes('*')) continue
      for (const [what, type, payload] of /^(GET|HEAD)$/.test(method) ? unread : bodies) {
        // What ends the session it is asked with needs a new one each time.
        if (!ofUser || method === 'DELETE' || url === '/logout') ofUser = (await logIn(app)).access_token
        const bearer = { authorization: `Bearer ${url.startsWith('/admin') ? ofAdmin : ofUser}` }
        for (const credential of [undefined, family === 'oauth' || url === '/revocations' ? ofClient : bearer]) {
          const headers = { ...credential, ...(type !== undefined && { 'content-type': type }) }
          const path = url.replace(/:\w+/g, '0198f3ce-4b7e-4f3a-9d1c-6a1f2e3d4c5b')
          const options: InjectOptions = {
            method: method as 'GET',
            url: path,
            headers,
            ...(payload !== undefined && { payload }),
          }
          const response = await app.inject(options)
          const fault = whatIsWrong(response, { url, method, family })
          const isTaken = response.statusCode < 400 && !withoutBody(method, url)
          if (fault || isTaken) wrong.push(`${method} ${url} with ${what}: ${fault ?? response.statusCode}`)
        }
      }
    }
    t.same(wrong, [])
    t.same(
      logs.filter(({ level }) => (level as number) >= 50),
      [],
      'nothing rings an alarm',
    )
  },
)
