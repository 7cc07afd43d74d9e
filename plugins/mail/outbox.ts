import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { toMailedEmail } from '../../domain/emails.ts'
import { isUuid } from '../../domain/ids.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { ShortRecord } from '../../domain/record.ts'
import { createDueWork, ignoreUnavailable, leaseMs, type Save } from '../records/due.ts'
import { recordContext } from '../records/records.ts'
import { type LinkKind, linkKinds } from './kinds.ts'
import type { Message } from './mail.ts'
import { compose } from './texts/compose.ts'
import { type Mail, MailFailed, openTransport, type Transport } from './transports/transport.ts'

declare module 'fastify' {
  interface FastifyInstance {
    outbox: Awaited<ReturnType<typeof createOutbox>>
  }
}

const [second, minute, hour] = [1000, 60_000, 3_600_000]
/** Between two looks at what is due. */
const pollMs = second
/** Pauses before a mail is tried again, whatever was wrong: a relay that refuses all may be set wrongly, and mended. */
export const retriesMs = [5 * second, 30 * second, 2 * minute, 10 * minute, hour, 6 * hour]
/** For one try. */
const sendMs = 40_000
/** Between two times that this process says that it has the mail. */
const renewMs = 5_000
/** By one process. */
const atOnce = 4

const isLink = (kind: string): kind is LinkKind => (linkKinds as string[]).includes(kind)
/** The kinds of records that are mails. */
export const mailKinds: string[] = [...linkKinds, 'notice']

/**
 * Sends the mails that are due: records, each its own mail. One whose record was used or replaced meanwhile does not
 * leave any more.
 *
 * @throws {ConfigError} for a directory that cannot be written
 */
async function createOutbox(
  app: Pick<FastifyInstance, 'config' | 'store' | 'secrets' | 'mail' | 'events' | 'jobs' | 'log' | 'now'>,
) {
  const { config, store, secrets, mail, events, log, now } = app
  const transport = await openTransport(config, now)
  const attempts = { sent: 0, failed: 0 }
  const work = createDueWork(app, {
    kinds: mailKinds,
    pollMs,
    atOnce,
    deliver,
    words: { unseen: 'the mails that are due could not be looked for', waits: 'a mail waits for the store' },
  })

  function read({ kind, id }: Pick<ShortRecord, 'kind' | 'id'>, data: string): Message | undefined {
    const opened = secrets.open(Buffer.from(data, 'base64url'), recordContext(kind, id))
    return opened && JSON.parse(opened.plaintext.toString())
  }
  /** A change of the message in the data of a record. */
  const changing =
    ({ kind, id }: ShortRecord, change: (message: Message) => Message) =>
    (data: string): string => {
      const message = read({ kind, id }, data)
      if (!message) return data
      const changed = Buffer.from(JSON.stringify(change(message)))
      return secrets.seal(changed, recordContext(kind, id)).toString('base64url')
    }

  /** Sends a mail, and has it meanwhile. @returns why it was not taken */
  async function trySending(through: Transport, mailed: Mail, save: Save): Promise<string | undefined> {
    let renewal: Promise<void> = Promise.resolve()
    const timer = setInterval(() => {
      renewal = renewal.then(() => save(now() + leaseMs)).catch(ignoreUnavailable)
    }, renewMs)
    try {
      await through.send(mailed, AbortSignal.any([work.signal, AbortSignal.timeout(sendMs)]))
      return undefined
    } catch (error) {
      if (error instanceof MailFailed) return error.message
      log.error({ err: error, mail: mailed.id }, 'a mail could not be sent')
      return 'this program failed, see the log'
    } finally {
      clearInterval(timer)
      await renewal
    }
  }

  async function deliver(record: ShortRecord, save: Save): Promise<void> {
    const message = read(record, record.data)
    const mailed = message && mailOf(record, message)
    // Sealed under a secret that is gone, or nobody's.
    if (!transport || !mailed) return save()
    const failure = await trySending(transport, mailed, save)
    if (failure === undefined) {
      attempts.sent += 1
      log.info({ mail: record.id, kind: message.kind }, 'a mail was sent')
      return record.kind === 'notice' ? store.removeRecord(record.id) : save(undefined, changing(record, withoutToken))
    }
    // By another process, or after the start.
    if (work.signal.aborted) return save(now())
    attempts.failed += 1
    await fail(record, message, failure, save)
  }

  function mailOf({ id, expiresAt }: ShortRecord, message: Message): Mail | undefined {
    const { to, locale, token, code, about } = message
    // The record of a link may have a notice in its place, which has none: see `issue` of mail.ts.
    if (to === undefined || (isLink(message.kind) && token === undefined)) return undefined
    const link = isLink(message.kind) && token !== undefined ? mail.linkTo(message.kind, token) : undefined
    const parts = omitUndefined({ kind: message.kind, locale, service: mail.service, link, code, about })
    const content = compose(link === undefined ? parts : { ...parts, expiresAt })
    return omitUndefined({ id, kind: message.kind, to: toMailedEmail(to), locale, link, code, ...content })
  }

  /** Has it tried again later, or gives it up. */
  async function fail(record: ShortRecord, { kind, tries: before }: Message, reason: string, save: Save) {
    const { id, owner, expiresAt } = record
    const tries = before + 1
    const pauseMs = retriesMs[before]
    const named = { mail: id, kind, reason, tries }
    if (pauseMs !== undefined && now() + pauseMs < expiresAt) {
      await save(
        now() + pauseMs,
        changing(record, (message) => ({ ...message, tries })),
      )
      log.warn({ ...named, retry_in_ms: pauseMs }, 'a mail was not taken')
    } else {
      await save(undefined, changing(record, withoutToken))
      events.emit({ log }, 'mail.failed', { ...named, ...(isUuid(owner) && { sub: owner }) })
    }
  }

  if (transport) work.begin()

  return {
    /** of this process, for the metrics */
    attempts,
    /** How long a mail had been due when this process looked last. */
    get waitedMs() {
      return work.waitedMs
    },
    look: async (): Promise<void> => transport && work.look(),
    sent: work.sent,
    stop: work.stop,
    async close(): Promise<void> {
      await work.close()
      transport?.close()
    },
  }
}

/** What has left, or never will, is not kept. */
const withoutToken = ({ token: _, ...message }: Message): Message => message

export default fp(
  async (app: FastifyInstance) => {
    const outbox = await createOutbox(app)
    app.decorate('outbox', outbox)
    app.addHook('preClose', async () => outbox.stop())
    app.addHook('onClose', () => outbox.close())
  },
  { name: 'outbox', dependencies: ['store', 'secrets', 'mail', 'events', 'jobs'] },
)
