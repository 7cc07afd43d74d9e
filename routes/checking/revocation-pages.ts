import { setImmediate } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { toRevocationEntry } from '../../schemas/revocations.ts'
import type { RevocationPage } from '../../stores/tables/revocations.ts'

/** A page in the two forms of `GET /revocations`. */
export interface PageText {
  /** a JSON response */
  json: string
  /** an event of a stream; one buffer for all followers */
  event: Buffer
}

const texts = new WeakMap<RevocationPage, PageText>()

/** The text of a page, written once for all followers. */
export function textOf(page: RevocationPage): PageText {
  const known = texts.get(page)
  if (known) return known
  const { revocations, cursor, more } = page
  const entries = `"revocations":${JSON.stringify(revocations.map(toRevocationEntry))}`
  const rest = more ? ',"more":true' : ''
  const text = {
    json: `{${entries},"cursor":${JSON.stringify(cursor)}${rest}}`,
    event: Buffer.from(`event: revocations\nid: ${cursor}\ndata: {${entries}${rest}}\n\n`),
  }
  texts.set(page, text)
  return text
}

interface Waiting {
  position: string | undefined
  resolve(page: RevocationPage): void
  reject(error: unknown): void
}

/**
 * Reads pages for followers that are behind: one page in each turn of the event loop, so that other requests go on in
 * between. Followers at the same position share a page.
 *
 * @returns a function that reads the page after a position; undefined for the first @throws {StoreUnavailable}
 */
export function createPages({
  revocations,
}: Pick<FastifyInstance, 'revocations'>): (position: string | undefined) => Promise<RevocationPage> {
  let waiting: Waiting[] = []
  let isReading = false

  async function read(): Promise<void> {
    isReading = true
    for (let first = waiting[0]; first; first = waiting[0]) {
      const { position } = first
      try {
        const page = await revocations.since(position)
        textOf(page)
        const answered = waiting.filter((one) => one.position === position)
        waiting = waiting.filter((one) => one.position !== position)
        for (const { resolve } of answered) resolve(page)
      } catch (error) {
        // For all at once: each would wait for the same failing store in turn.
        for (const { reject } of waiting.splice(0)) reject(error)
      }
      await setImmediate()
    }
    isReading = false
  }

  return (position) =>
    new Promise((resolve, reject) => {
      waiting.push({ position, resolve, reject })
      if (!isReading) void read()
    })
}
