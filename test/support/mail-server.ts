import type { AddressInfo } from 'node:net'
import { SMTPServer, type SMTPServerOptions } from 'smtp-server'
import type { Scope } from './basics.ts'
import { cert, key } from './certificate.ts'

/** A mail as a server has taken it. */
export interface TakenMail {
  from: string
  to: string[]
  /** whole, with its header */
  raw: string
  /** who sent it, where the server asks */
  user: string | undefined
  isEncrypted: boolean
}

/** Where a server says no. */
type Step = 'connect' | 'auth' | 'mail' | 'rcpt' | 'data'

export interface MailServer {
  port: number
  taken: TakenMail[]
  /** how often somebody has come as far as this */
  reached: Record<Step, number>
  /** Answers from now on: a refusal as `550 5.1.1 text`, or whatever the function does before it returns one. */
  answer?: { at: Step; with: string | (() => Promise<string | undefined> | string | undefined) } | undefined
  /** Cuts the connections that there are. */
  drop(): void
  close(): Promise<void>
}

export const mailUser = { user: 'latchkey@example.com', pass: 'hunter2/of the relay' }

/** A real mail server on the loopback, with the certificate of the tests. */
export async function startMailServer(
  t: Scope,
  { port = 0, ...options }: SMTPServerOptions & { port?: number } = {},
): Promise<MailServer> {
  const reached = { connect: 0, auth: 0, mail: 0, rcpt: 0, data: 0 }
  const server = new SMTPServer({
    ...{ key, cert, disableReverseLookup: true, logger: false, authOptional: true, closeTimeout: 1 },
    onConnect: (_, done) => void answer('connect').then(done),
    onAuth: (auth, _, done) =>
      void answer('auth').then((error) => {
        const isRight = auth.username === mailUser.user && auth.password === mailUser.pass
        done(error ?? (isRight ? null : refusal('535 5.7.8 no')), { user: auth.username })
      }),
    onMailFrom: (_, __, done) => void answer('mail').then(done),
    onRcptTo: (_, __, done) => void answer('rcpt').then(done),
    onData(stream, session, done) {
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.once('end', async () => {
        const error = await answer('data')
        if (error) return done(error)
        const { mailFrom, rcptTo } = session.envelope
        mailServer.taken.push({
          from: mailFrom ? mailFrom.address : '',
          to: rcptTo.map(({ address }) => address),
          raw: Buffer.concat(chunks).toString(),
          user: session.user as string | undefined,
          isEncrypted: session.secure,
        })
        done(null)
      })
    },
    ...options,
  })
  server.on('error', () => {})

  async function answer(at: Step): Promise<Error | undefined> {
    reached[at] += 1
    const wanted = mailServer.answer
    if (wanted?.at !== at) return undefined
    const text = typeof wanted.with === 'string' ? wanted.with : await wanted.with()
    return text === undefined ? undefined : refusal(text)
  }

  let closed: Promise<void> | undefined
  const mailServer: MailServer = {
    port: 0,
    taken: [],
    reached,
    drop() {
      for (const connection of server.connections) connection._socket?.destroy()
    },
    close() {
      closed ??= new Promise((resolve) => server.close(resolve))
      mailServer.drop()
      return closed
    },
  }
  t.teardown(() => mailServer.close())
  await new Promise<void>((resolve) => server.listen(port, '0.0.0.0', resolve))
  mailServer.port = (server.server.address() as AddressInfo).port
  return mailServer
}

const refusal = (text: string) => Object.assign(new Error(text.slice(4)), { responseCode: Number(text.slice(0, 3)) })

/** A field of the header, decoded. */
export function fieldOf(raw: string, name: string): string | undefined {
  const [head = ''] = raw.split('\r\n\r\n')
  const value = new RegExp(`^${name}: (.*(?:\\r\\n[ \\t].*)*)`, 'im').exec(head)?.[1]?.replace(/\r\n[ \t]/g, ' ')
  return value
    ?.replace(/\?= =\?/g, '?==?')
    .replace(/=\?UTF-8\?([BQ])\?(.*?)\?=/gi, (_, encoding: string, word: string) =>
      encoding.toUpperCase() === 'B' ? Buffer.from(word, 'base64').toString() : unquote(word.replaceAll('_', ' ')),
    )
}

const unquote = (text: string) =>
  Buffer.from(
    text.replace(/=\r?\n/g, '').replace(/=([0-9A-F]{2})/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  ).toString()

/** A part of a mail of two, decoded. */
export function partOf(raw: string, type: 'text/plain' | 'text/html'): string {
  const boundary = /boundary="(.*?)"/.exec(raw)?.[1] ?? 'none'
  const part = raw.split(`--${boundary}`).find((one) => one.includes(`Content-Type: ${type}`)) ?? ''
  const body = part.slice(part.indexOf('\r\n\r\n') + 4)
  if (/Content-Transfer-Encoding: base64/i.test(part)) return Buffer.from(body, 'base64').toString()
  return /Content-Transfer-Encoding: quoted-printable/i.test(part) ? unquote(body) : body
}
