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
  return Object.entries(secrets).flatMap(([what, secret]) => {
    const forms = formsOf(secret)
    const found = Object.entries(places).filter(([, text]) => forms.some((form) => text.includes(form)))
    return found.map(([place]) => `${what} in ${place}`)
  })
}
