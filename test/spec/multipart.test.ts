import fc from 'fast-check'
import t from 'tap'
import { parseMultipart } from '../../plugins/http/multipart.ts'
import { anyText } from '../support/any-text.ts'
import { json, listen, onOneStore, password, signUp } from '../support/helper.ts'

/* `multipart/form-data` at /token, contract §4: fields and no files, with one reading or none. */

const boundary = 'xYz-19'
const type = `multipart/form-data; boundary=${boundary}`
const disposition = (name: string, more = '') => `Content-Disposition: form-data; name="${name}"${more}`
const part = (header: string, value: string) => `--${boundary}\r\n${header}\r\n\r\n${value}\r\n`
const end = `--${boundary}--\r\n`
const field = (name: string, value: string, more = '') => part(disposition(name, more), value)
const login = field('username', 'ada') + field('password', password)

const good: Record<string, [body: string, contentType?: string]> = {
  'as browsers and curl send it': [login + end],
  'without a last line break': [login + end.trimEnd()],
  'with the grant': [field('grant_type', 'password') + login + end],
  'with fields that nobody knows': [
    login + field('__proto__', 'x') + field('constructor', 'y') + field('toString', '') + end,
  ],
  'with empty fields, as Swagger UI has them': [
    login + field('scope', '') + field('client_id', '') + field('client_secret', '') + end,
  ],
  'with types': [
    part(`${disposition('username')}\r\nContent-Type: text/plain; charset=utf-8`, 'ada') +
      field('password', password) +
      end,
  ],
  'with lengths, as aiohttp sends them': [
    part(`Content-Type: text/plain\r\n${disposition('username')}\r\nContent-Length: 3`, 'ada') +
      field('password', password) +
      end,
  ],
  'with a coding that changes nothing': [
    part(`${disposition('username')}\r\nContent-Transfer-Encoding: 8bit`, 'ada') + field('password', password) + end,
  ],
  'without quotes, as .NET sends it': [
    part('Content-Disposition: form-data; name=username', 'ada') + field('password', password) + end,
  ],
  'with names in capitals': [
    part('CONTENT-DISPOSITION:Form-Data;NAME="username"', 'ada') + field('password', password) + end,
  ],
  'with a boundary in quotes': [login + end, `multipart/form-data; charset=utf-8; boundary="${boundary}"`],
  'with a type in capitals': [login + end, `Multipart/Form-Data;Boundary=${boundary}`],
}

const twoHeads = `${disposition('username')}\r\n${disposition('password')}`
const bad: Record<string, [body: string, contentType?: string]> = {
  nothing: [''],
  'a preamble': [`hello\r\n${login}${end}`],
  'an epilogue': [`${login}${end}hello`],
  'a second form behind it': [login + end + login + end],
  'cut before the end': [login],
  'cut in the last boundary': [`${login}--${boundary}`],
  'cut in a header section': [`${login}--${boundary}\r\nContent-Disposition: form-da`],
  'another boundary': [login + end, 'multipart/form-data; boundary=other'],
  'no boundary': [login + end, 'multipart/form-data'],
  'an empty boundary': [login + end, 'multipart/form-data; boundary='],
  'two boundaries': [login + end, `${type}; boundary=${boundary}`],
  'a boundary that is too long': [
    login.replaceAll(boundary, 'x'.repeat(71)) + end,
    `multipart/form-data; boundary=${'x'.repeat(71)}`,
  ],
  'bare line feeds': [(login + end).replaceAll('\r\n', '\n')],
  'a boundary in a value': [field('username', `a\r\n--${boundary}x`) + field('password', password) + end],
  'white space behind a boundary': [login.replace(`${boundary}\r\n`, `${boundary} \r\n`) + end],
  'a file': [login + field('file', 'x', '; filename="a.txt"') + end],
  'a file without a name': [login + field('file', '', '; filename=""') + end],
  'a file, first the name': [login + part('Content-Disposition: form-data; filename="x"; name="a"', 'x') + end],
  'a file in capitals': [login + field('file', 'x', '; FileName="a.txt"') + end],
  'a file by RFC 5987': [login + field('file', 'x', "; filename*=UTF-8''a.txt") + end],
  'bytes without a name of a file': [
    login + part(`${disposition('a')}\r\nContent-Type: application/octet-stream`, 'x') + end,
  ],
  'JSON in a part': [login + part(`${disposition('a')}\r\nContent-Type: application/json`, '{}') + end],
  'parts in a part': [
    login + part(`${disposition('a')}\r\nContent-Type: multipart/mixed; boundary=q`, '--q\r\n\r\nx\r\n--q--') + end,
  ],
  'another charset': [login + part(`${disposition('a')}\r\nContent-Type: text/plain; charset=latin1`, '\xe9') + end],
  base64: [
    part(`${disposition('username')}\r\nContent-Transfer-Encoding: base64`, 'YWRh') + field('password', password) + end,
  ],
  'a field twice': [login + field('username', 'ada') + end],
  'a field that nobody knows, twice': [login + field('a', '1') + field('a', '1') + end],
  '__proto__ twice': [login + field('__proto__', '1') + field('__proto__', '1') + end],
  'two dispositions': [part(twoHeads, 'ada') + field('password', password) + end],
  'a name twice': [field('username', 'ada', '; name="password"') + field('password', password) + end],
  'a name by RFC 5987': [
    part("Content-Disposition: form-data; name*=UTF-8''username", 'ada') + field('password', password) + end,
  ],
  'no name': [part('Content-Disposition: form-data', 'ada') + login + end],
  'an empty name': [field('', 'x') + login + end],
  'an escape in a name': [field('user\\name', 'ada') + login + end],
  'a name that is not closed': [
    part('Content-Disposition: form-data; name="username', 'ada') + field('password', password) + end,
  ],
  'an attachment': [
    part('Content-Disposition: attachment; name="username"', 'ada') + field('password', password) + end,
  ],
  'no disposition': [part('X: y', 'ada') + login + end],
  'no header section': [`--${boundary}\r\n\r\nada\r\n${login}${end}`],
  'a folded line': [
    part('Content-Disposition: form-data;\r\n name="username"', 'ada') + field('password', password) + end,
  ],
  'a space before the colon': [
    part('Content-Disposition : form-data; name="username"', 'ada') + field('password', password) + end,
  ],
  'a line without a colon': [part(`${disposition('username')}\r\nnonsense`, 'ada') + field('password', password) + end],
  'a NUL in a value': [field('username', 'ada\0') + field('password', password) + end],
  'a NUL in a name': [field('user\0name', 'ada') + login + end],
  'no UTF-8 in a value': [field('username', 'ad\xff') + field('password', password) + end],
  'no UTF-8 in a name': [field('x\xc3', 'ada') + login + end],
  'an overlong character': [field('username', '\xc0\xaf') + field('password', password) + end],
  'many fields of a header section': [
    part(`${disposition('username')}\r\n${'a: b\r\n'.repeat(500)}c: d`, 'ada') + field('password', password) + end,
  ],
}

onOneStore(
  'POST /token takes a login as multipart/form-data, and refuses what is not only fields or has two readings: 400',
  async (t, build) => {
    const { app } = await build()
    await signUp(app)
    const send = (body: string, contentType = type) =>
      app.inject({
        method: 'POST',
        url: '/token',
        headers: { 'content-type': contentType },
        payload: Buffer.from(body, 'latin1'),
      })
    for (const [what, [body, contentType]] of Object.entries(good)) {
      const response = await send(body, contentType)
      t.match({ status: response.statusCode, ...json(response) }, { status: 200, token_type: 'Bearer' }, what)
    }
    for (const [what, [body, contentType]] of Object.entries(bad)) {
      const response = await send(body, contentType)
      t.match({ status: response.statusCode, ...json(response) }, { status: 400, error: 'invalid_request' }, what)
      t.notMatch(response.body, /horse|ada/, what)
    }
    t.equal((await send(field('x', 'y'.repeat(16 * 1024)) + end)).statusCode, 413)
    t.match(json(await send(end)), { error_description: 'The parameter grant_type is missing' })
    t.match(json(await send(field('username', 'ada') + end)), {
      error_description: 'The parameter password is missing',
    })
    for (const url of ['/refresh', '/revoke', '/introspect', '/signup']) {
      const other = await app.inject({ method: 'POST', url, headers: { 'content-type': type }, payload: login + end })
      t.equal(other.statusCode, 415, `nowhere else: ${url}`)
    }
  },
)

onOneStore('fetch with FormData logs in, as the client of the tutorial does', async (t, build) => {
  const { app } = await build()
  await signUp(app, 'Ädá')
  const body = new FormData()
  body.append('username', 'Ädá')
  body.append('password', password)
  const origin = await listen(app)
  t.equal((await fetch(`${origin}/token`, { method: 'POST', body })).status, 200)
  body.append('file', new Blob(['x']), 'x')
  t.equal((await fetch(`${origin}/token`, { method: 'POST', body })).status, 400)
})

t.test('what is read of a form is what its sender wrote, and what another parser reads', async (t) => {
  const name = fc.stringMatching(/^[A-Za-z_ü"%-]{1,12}$/)
  const value = fc.oneof(anyText(), fc.stringMatching(/^[\r\n -]{0,12}$/)).map((text) => text.toWellFormed())
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(name, value), { maxLength: 5 }), async (fields) => {
      const form = new FormData()
      for (const [name, value] of fields) form.append(name, value)
      const sent = new Response(form)
      const contentType = sent.headers.get('content-type') as string
      const body = Buffer.from(await sent.arrayBuffer())
      const read = parseMultipart(body, contentType)
      // Line breaks become CRLF, and quotes in names are escaped, on the way out (WHATWG HTML §4.10.21.8).
      const wire = (text: string) => text.replace(/\r\n|\r|\n/g, '\r\n')
      t.same(
        read,
        fields.map(([name, value]) => [name.replaceAll('"', '%22'), wire(value)]),
        { diagnostic: false },
      )
    }),
    { numRuns: 200 },
  )
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.constantFrom(
          '\r\n',
          `--${boundary}`,
          '--',
          'Content-Disposition: form-data; name="a"',
          ': ',
          '"',
          'x',
          ';',
          '\r\n\r\n',
        ),
        { maxLength: 24 },
      ),
      async (pieces) => {
        const body = Buffer.from(pieces.join(''))
        let read: [string, string][] | undefined
        try {
          read = parseMultipart(body, type)
        } catch (error) {
          if (!(error instanceof SyntaxError)) throw error
          return
        }
        const other = await new Response(body, { headers: { 'content-type': type } }).formData()
        t.same(read, [...other], { diagnostic: false })
      },
    ),
    { numRuns: 1_000 },
  )
})
