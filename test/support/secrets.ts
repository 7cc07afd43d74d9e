import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'

/** All that a store has, as text; bytes as hexadecimal digits too. */
export async function contentOf(place: { DATABASE_URL?: string; AUTH_DATA_DIR?: string }): Promise<string> {
  if (!place.DATABASE_URL) {
    const bytes = readFileSync(join(place.AUTH_DATA_DIR as string, 'lmdb/data.mdb'))
    return `${bytes.toString('latin1')} ${bytes.toString('hex')}`
  }
  const client = new pg.Client({ connectionString: place.DATABASE_URL })
  await client.connect()
  try {
    const { rows: tables } = await client.query<{ name: string }>(
      'SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema()',
    )
    let text = ''
    for (const { name } of tables) {
      const { rows } = await client.query<{ row: string }>(`SELECT "${name}"::text AS row FROM "${name}"`)
      text += rows.map(({ row }) => row).join('\n')
    }
    return text
  } finally {
    await client.end()
  }
}

/** Base64 of bytes that stand among others: as far as it is the same at each of the three places within a group. */
const base64Inside = (bytes: Buffer): string[] =>
  [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64')
    return text.slice(before === 0 ? 0 : 4, (before + bytes.length) % 3 === 0 ? undefined : -4)
  })

/** A secret as it is, and in every form in which it could have been kept or sent. */
export function formsOf(secret: string | Buffer): string[] {
  const texts = typeof secret === 'string' ? [secret] : []
  const bytes = typeof secret === 'string' ? [Buffer.from(secret)] : [secret]
  // A token of ours is the text of its bytes.
  const token = /^lk\w*_(?<body>.+)$/.exec(texts[0] ?? '')?.groups?.['body']
  if (token !== undefined) bytes.push(Buffer.from(token, 'base64url'))
  const forms = [
    ...texts.flatMap((text) => [
      text,
      encodeURIComponent(text),
      text.replaceAll(' ', '+'),
      JSON.stringify(text).slice(1, -1),
    ]),
    ...bytes.flatMap((each) => [each.toString('latin1'), each.toString('hex'), ...base64Inside(each)]),
  ]
  const inUrls = forms.map((form) => form.replaceAll('+', '-').replaceAll('/', '_'))
  return [...new Set([...forms, ...inUrls])].filter((form) => form.length >= 12)
}

/** @returns the names of the secrets that are somewhere, with where */
export function findSecrets(secrets: Record<string, string | Buffer>, places: Record<string, string>): string[] {
  const byStart = new Map<number, { what: string; form: string }[]>()
  const isStart = new Uint8Array(2 ** 16)
  for (const [what, secret] of Object.entries(secrets)) {
    for (const form of formsOf(secret)) {
      const start = startAt(form, 0)
      byStart.set(start, [...(byStart.get(start) ?? []), { what, form }])
      isStart[start] = 1
    }
  }
  const found = Object.entries(places).flatMap(([place, text]) => {
    const here = new Set<string>()
    // Once through each, for a heap is large and there are hundreds of forms.
    for (let at = 0; at < text.length; at++) {
      const start = startAt(text, at)
      if (isStart[start] === 0) continue
      for (const { what, form } of byStart.get(start) ?? []) if (text.startsWith(form, at)) here.add(what)
    }
    return [...here].map((what) => ({ what, place }))
  })
  return Object.keys(secrets).flatMap((what) =>
    found.filter((each) => each.what === what).map(({ place }) => `${what} in ${place}`),
  )
}

/** The three characters at a place, as a number of 16 bits, which others may share. */
const startAt = (text: string, at: number): number =>
  (text.charCodeAt(at) ^ (text.charCodeAt(at + 1) << 5) ^ (text.charCodeAt(at + 2) << 9)) & 0xffff

/**
 * Looks for codes of six or eight digits, alone or as they are written: within longer numbers some are by chance.
 * @returns the names of those that are somewhere, with where
 */
export function findCodes(codes: Record<string, string>, places: Record<string, string>): string[] {
  return Object.entries(codes).flatMap(([what, code]) => {
    const half = code.length / 2
    const written = new RegExp(`(?<![\\d.])${code.slice(0, half)}[ -]?${code.slice(half)}(?!\\d)`)
    return Object.entries(places).flatMap(([place, text]) => (written.test(text) ? [`${what} in ${place}`] : []))
  })
}
