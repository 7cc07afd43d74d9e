import type { FastifyInstance } from 'fastify'
import { malformedBody } from './bodies.ts'
import { addField, newForm } from './form.ts'

/*
 * `multipart/form-data` (RFC 7578) with fields only, as tutorials and API clients send a login. General parsers stream
 * files, skip what they do not understand, and let the last of two names win. A body of a few KiB either has one
 * reading or is refused.
 */

/** RFC 2046 §5.1.1, as a token or in quotes. */
const boundaryParameter =
  /;[ \t]*boundary=(?:"([\w'()+,./:=? -]{0,69}[\w'()+,./:=?-])"|([\w'+.-]{1,70}))[ \t]*(?=;|$)/gi
const fieldLine = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)$/
/** RFC 7578 §4.2. Some readers take a backslash in a name for an escape, others for a character: it is refused. */
const dispositionParameter = /;[ \t]*([!#$%&'*+.^_`|~\w-]+)=(?:"([^"\\]*)"|([!#$%&'*+.^_`|~\w-]+))[ \t]*/y
const plainText = /^text\/plain[ \t]*(;[ \t]*charset="?(utf-?8|us-ascii)"?[ \t]*)?$/i
const identityEncoding = /^(7bit|8bit|binary)$/i

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const decode = (bytes: string) => utf8.decode(Buffer.from(bytes, 'latin1'))

/** Lets the routes of a scope take forms as `multipart/form-data` too, of fields and without files. */
export function acceptMultipart(scope: FastifyInstance): void {
  scope.addContentTypeParser('multipart/form-data', { parseAs: 'buffer' }, ({ headers }, body, done) => {
    const form = newForm()
    try {
      const fields = parseMultipart(body as Buffer, headers['content-type'] ?? '')
      for (const [name, value] of fields) addField(form, name, value)
    } catch (error) {
      return done(error instanceof SyntaxError ? malformedBody(error.message) : (error as Error))
    }
    done(null, form)
  })
}

/**
 * Reads the fields of a form, in their order.
 *
 * @param contentType the field of the request, with the boundary
 * @returns names and values; a repeated name is left to the caller
 * @throws {SyntaxError} with words for the client: for a boundary that is missing, repeated or not at the end; for text
 * before or after the parts; for a part that is a file, is not UTF-8 text, or has a header section that RFC 7578 does
 * not allow
 */
export function parseMultipart(body: Buffer, contentType: string): [name: string, value: string][] {
  const boundaries = [...contentType.matchAll(boundaryParameter)]
  const [, quoted, token] = boundaries[0] ?? []
  const boundary = quoted ?? token
  if (boundary === undefined || boundaries.length > 1)
    throw new SyntaxError('The Content-Type has no boundary, or more than one')
  // latin1 is one character for each byte, so splitting loses nothing.
  const [before, ...parts] = `\r\n${body.toString('latin1')}`.split(`\r\n--${boundary}`)
  const after = parts.pop()
  if (before !== '' || (after !== '--' && after !== '--\r\n'))
    throw new SyntaxError('The form does not begin and end with its boundary')
  return parts.map(readPart)
}

function readPart(part: string): [name: string, value: string] {
  const end = part.indexOf('\r\n\r\n')
  if (!part.startsWith('\r\n') || end < 1) throw new SyntaxError('A part of the form has no header section')
  const fields = readHeader(part.slice(2, end))
  const name = readName(fields.get('content-disposition') ?? '')
  const type = fields.get('content-type') ?? 'text/plain'
  const encoding = fields.get('content-transfer-encoding') ?? '7bit'
  if (!plainText.test(type) || !identityEncoding.test(encoding))
    throw new SyntaxError('A part of the form is not UTF-8 text')
  try {
    return [decode(name), decode(part.slice(end + 4))]
  } catch {
    throw new SyntaxError('The form is not valid UTF-8')
  }
}

function readHeader(text: string): Map<string, string> {
  const fields = new Map<string, string>()
  for (const line of text.split('\r\n')) {
    const [, name = '', value = ''] = fieldLine.exec(line) ?? []
    const key = name.toLowerCase()
    if (key === '' || fields.has(key)) throw new SyntaxError('The header section of a part is malformed')
    fields.set(key, value.trimEnd())
  }
  return fields
}

function readName(disposition: string): string {
  const malformed = new SyntaxError('The Content-Disposition of a part is malformed')
  if (!/^form-data[ \t]*(;|$)/i.test(disposition)) throw malformed
  let name: string | undefined
  let at = disposition.indexOf(';')
  while (at >= 0 && at < disposition.length) {
    dispositionParameter.lastIndex = at
    const [whole, key = '', quoted, token] = dispositionParameter.exec(disposition) ?? []
    if (/^filename\*?$/i.test(key)) throw new SyntaxError('Files are not taken here')
    if (whole === undefined || key.toLowerCase() !== 'name' || name !== undefined) throw malformed
    name = quoted ?? token
    at += whole.length
  }
  if (!name) throw malformed
  return name
}
