import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { toMailedEmail } from '../../domain/emails.ts'
import { isUuid } from '../../domain/ids.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { ShortRecord } from '../../domain/record.ts'
import { elapsedMs } from '../../domain/time.ts'
import { StoreUnavailable } from '../../stores/store.ts'
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
/** After the store did not answer. */
const storePauseMs = 5 * second
/** Pauses before a mail is tried again, whatever was wrong: a relay that refuses all may be set wrongly, and mended. */
export const retriesMs = [5 * second, 30 * second, 2 * minute, 10 * minute, hour, 6 * hour]
/** For one try. */
const sendMs = 40_000
/**
 * A process that sends has the mail for so long, and as often again as it says so. Then the mail is due again: that
 * process was killed.
 */
export const leaseMs = 15_000
const renewMs = 5_000
/** By one process. */
const atOnce = 4
/** At the end of the app what is being sent has so long, or this part of AUTH_SHUTDOWN_GRACE. */
const lastMs = 2_000
const partOfGrace = 4

const isLink = (kind: string): kind is LinkKind => (linkKinds as string[]).includes(kind)
/** Whether a record that is due is a mail. */
export const isMail = ({ kind }: ShortRecord): boolean => kind === 'notice' || isLink(kind)

/**
 * Sends the mails that are due: records, each its own mail. Every process looks; whoever moves `dueAt` on sends, and
 * then says in the record that it is sent, or when it is tried again. So a mail leaves at least once, whoever is killed
 * whenever, and one whose record was used or replaced meanwhile does not leave any more.
 *
 * @throws {ConfigError} for a directory that cannot be written
 */
async function createOutbox({
  config,
  store,
  secrets,
  mail,
  events,
  jobs,
  log,
  now,
}: Pick<FastifyInstance, 'config' | 'store' | 'secrets' | 'mail' | 'events' | 'jobs' | 'log' | 'now'>) {
  const transport = await openTransport(config, now)
  const attempts = { sent: 0, failed: 0 }
  const running = new Set<Promise<void>>()
  const abort = new AbortController()
  let isStopping = false
  let looking: Promise<void> | undefined
  let waitedMs = 0

  const keyOf = ({ kind, id }: ShortRecord) => ({ kind, id, now: now() })

  function read({ kind, id, data }: ShortRecord): Message | undefined {
    const opened = secrets.open(Buffer.from(data, 'base64url'), recordContext(kind, id))
    return opened && JSON.parse(opened.plaintext.toString())
  }
  const write = ({ kind, id }: ShortRecord, message: Message): string =>
    secrets.seal(Buffer.from(JSON.stringify(message)), recordContext(kind, id)).toString('base64url')

  /** @returns the record as this process has it; undefined where another was first, or it has just changed */
  async function claim(record: ShortRecord): Promise<ShortRecord | undefined> {
    const dueAt = now() + leaseMs
    const isDone = await store.replaceRecord(keyOf(record), record.version, record.data, dueAt)
    return isDone ? { ...record, version: record.version + 1, dueAt } : undefined
  }

  /**
   * A record that this process has. Guesses at its code, and a change of AUTH_SECRET, may change it meanwhile: then it is
   * read again, and given up where it is used, replaced, or taken to be abandoned.
   */
  function hold(claimed: ShortRecord) {
    let held: ShortRecord | undefined = claimed
    return async (dueAt?: number, change: (message: Message) => Message = (same) => same): Promise<void> => {
      while (held) {
        const message = read(held)
        const data = message ? write(held, change(message)) : held.data
        if (await store.replaceRecord(keyOf(held), held.version, data, dueAt)) {
          held = { ...held, data, version: held.version + 1, ...(dueAt !== undefined && { dueAt }) }
          return
        }
        const found = await store.findRecord(keyOf(held))
        held = found && found.dueAt === held.dueAt ? found : undefined
      }
    }
  }

  /** Sends a mail, and has it meanwhile. @returns why it was not taken */
  async function trySending(transport: Transport, mailed: Mail, save: Save): Promise<string | undefined> {
    let renewal: Promise<void> = Promise.resolve()
    const timer = setInterval(() => {
      renewal = renewal.then(() => save(now() + leaseMs)).catch(ignoreUnavailable)
    }, renewMs)
    try {
      await transport.send(mailed, AbortSignal.any([abort.signal, AbortSignal.timeout(sendMs)]))
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

  async function deliver(transport: Transport, record: ShortRecord): Promise<void> {
    const save = hold(record)
    const message = read(record)
    const mailed = message && mailOf(record, message)
    // Sealed under a secret that is gone, or nobody's.
    if (!mailed) return save()
    const failure = await trySending(transport, mailed, save)
    if (failure === undefined) {
      attempts.sent += 1
      log.info({ mail: record.id, kind: message.kind }, 'a mail was sent')
      return record.kind === 'notice' ? store.removeRecord(record.id) : save(undefined, withoutToken)
    }
    // By another process, or after the start.
    if (abort.signal.aborted) return save(now())
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
  async function fail(
    { id, owner, expiresAt }: ShortRecord,
    { kind, tries: before }: Message,
    reason: string,
    save: Save,
  ) {
    const tries = before + 1
    const pauseMs = retriesMs[before]
    const named = { mail: id, kind, reason, tries }
    if (pauseMs !== undefined && now() + pauseMs < expiresAt) {
      await save(now() + pauseMs, (message) => ({ ...message, tries }))
      log.warn({ ...named, retry_in_ms: pauseMs }, 'a mail was not taken')
    } else {
      await save(undefined, withoutToken)
      events.emit({ log }, 'mail.failed', { ...named, ...(isUuid(owner) && { sub: owner }) })
    }
  }

  /** Takes what is due, as much as there is room for, and begins to send it. */
  async function takeDue(transport: Transport): Promise<void> {
    while (!isStopping) {
      const room = atOnce - running.size
      const due = (await store.dueRecords(now(), Math.max(room, 1))).filter(isMail)
      waitedMs = due[0]?.dueAt === undefined ? 0 : elapsedMs(due[0].dueAt, now())
      const claimed = (await Promise.all(due.slice(0, room).map(claim))).filter((record) => record !== undefined)
      // Nothing, or others have it, who look themselves.
      if (claimed.length === 0) return
      for (const record of claimed) start(transport, record)
    }
  }

  function start(transport: Transport, record: ShortRecord): void {
    const work = deliver(transport, record)
      .catch((error) => log.warn({ err: error, mail: record.id }, 'a mail waits for the store'))
      .finally(() => {
        running.delete(work)
        // There is room for the next.
        void lookOn()
      })
    running.add(work)
  }

  async function look(): Promise<void> {
    if (!transport || isStopping) return
    looking ??= takeDue(transport).finally(() => {
      looking = undefined
    })
    await looking
  }

  /** A look that never fails. @returns the pause until the next, which finds what this one could not */
  const lookOn = (): Promise<number> =>
    look().then(
      () => pollMs,
      (error) => {
        log.warn({ err: error }, 'the mails that are due could not be looked for')
        return storePauseMs
      },
    )
  if (transport) jobs.every(pollMs, lookOn, 'the mails that are due could not be looked for')

  return {
    /** of this process, for the metrics */
    attempts,
    /** How long a mail had been due when this process looked last. */
    get waitedMs() {
      return waitedMs
    },
    look,
    /** Waits for what is being sent just now. */
    sent: async (): Promise<void> => void (await Promise.all(running)),
    /** Begins with nothing more; what is being sent has a moment yet. */
    stop(): void {
      isStopping = true
      setTimeout(() => abort.abort(), Math.min(lastMs, config.AUTH_SHUTDOWN_GRACE.ms / partOfGrace)).unref()
    },
    async close(): Promise<void> {
      await looking?.catch(ignoreUnavailable)
      await Promise.all(running)
      transport?.close()
    },
  }
}

/** Says until when this process has a record, or when it is tried again; without, that it is done with. */
type Save = (dueAt?: number, change?: (message: Message) => Message) => Promise<void>

/** What has left, or never will, is not kept. */
const withoutToken = ({ token: _, ...message }: Message): Message => message

/** The next look finds it. */
function ignoreUnavailable(error: unknown): void {
  if (!(error instanceof StoreUnavailable)) throw error
}

export default fp(
  async (app: FastifyInstance) => {
    const outbox = await createOutbox(app)
    app.decorate('outbox', outbox)
    app.addHook('preClose', async () => outbox.stop())
    app.addHook('onClose', () => outbox.close())
  },
  { name: 'outbox', dependencies: ['store', 'secrets', 'mail', 'events', 'jobs'] },
)
