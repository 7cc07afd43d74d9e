import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { Test } from 'tap'

/* A collector of traces: it takes OTLP over HTTP in the binary encoding of protobuf, and keeps what it was sent. */

export interface Span {
  traceId: string
  spanId: string
  parentId: string
  name: string
  attributes: Record<string, unknown>
  /** 2 is a failure */
  status: number
  statusMessage: string
}

export interface Collector {
  origin: string
  spans: Span[]
  /** of each request */
  resources: Record<string, unknown>[]
  headers: IncomingHttpHeaders[]
  /** all bytes that came, one character for each */
  text: string
}

type Value = bigint | Buffer

/** Reads a message of protobuf: the values of each field by its number. */
function fieldsOf(bytes: Buffer): Map<number, Value[]> {
  const fields = new Map<number, Value[]>()
  let at = 0
  const varint = () => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++] as number
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
  }
  const take = (length: number) => {
    at += length
    return bytes.subarray(at - length, at)
  }
  while (at < bytes.length) {
    const tag = Number(varint())
    const [number, wire] = [tag >> 3, tag & 7]
    const value = wire === 0 ? varint() : take(wire === 1 ? 8 : wire === 5 ? 4 : Number(varint()))
    fields.set(number, [...(fields.get(number) ?? []), value])
  }
  return fields
}

const messages = (fields: Map<number, Value[]>, number: number) =>
  (fields.get(number) ?? []).map((bytes) => fieldsOf(bytes as Buffer))
const textOf = (value: Value | undefined) => (value as Buffer | undefined)?.toString() ?? ''

function attributesOf(fields: Map<number, Value[]>, number: number): Record<string, unknown> {
  const pairs = messages(fields, number).map((pair) => {
    const [value] = messages(pair, 2)
    const text = value?.get(1)?.[0]
    return [textOf(pair.get(1)?.[0]), text ? textOf(text) : Number(value?.get(3)?.[0])]
  })
  return Object.fromEntries(pairs)
}

/** Starts one on a free port, until the test ends. */
export async function startCollector(t: Test): Promise<Collector> {
  const collector: Collector = { origin: '', spans: [], resources: [], headers: [], text: '' }
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const body = Buffer.concat(chunks)
    collector.headers.push(request.headers)
    collector.text += body.toString('latin1')
    for (const resourceSpans of messages(fieldsOf(body), 1)) {
      for (const resource of messages(resourceSpans, 1)) collector.resources.push(attributesOf(resource, 1))
      for (const span of messages(resourceSpans, 2).flatMap((scope) => messages(scope, 2))) {
        const hex = (number: number) => (span.get(number)?.[0] as Buffer | undefined)?.toString('hex') ?? ''
        const [status] = messages(span, 15)
        collector.spans.push({
          traceId: hex(1),
          spanId: hex(2),
          parentId: hex(4),
          name: textOf(span.get(5)?.[0]),
          attributes: attributesOf(span, 9),
          status: Number(status?.get(3)?.[0] ?? 0),
          statusMessage: textOf(status?.get(2)?.[0]),
        })
      }
    }
    response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  collector.origin = `http://127.0.0.1:${(server.address() as { port: number }).port}`
  return collector
}
