import { randomInt, timingSafeEqual } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { serviceName, transports } from '../../config/mail.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import { deviceOf, type Origin } from '../../domain/places.ts'
import type { RecordTaking } from '../../domain/record.ts'
import type { Locale } from '../../domain/user.ts'
import { Refusal } from '../../errors.ts'
import { createRecords, type Presented } from '../records/records.ts'
import { type LinkKind, linkKinds, linkOf, type links, type MailKind, type NoticeKind } from './kinds.ts'

declare module 'fastify' {
  interface FastifyInstance {
    mail: ReturnType<typeof createMail>
  }
}

/** What the record of a mail holds, sealed. */
export interface Message {
  kind: MailKind
  /** undefined: nothing is mailed */
  to?: string
  locale: Locale
  /** of the link; gone once the mail has left */
  token?: string
  code?: string
  /** what else the mail says, by the names of its text */
  about: Record<string, string>
  /** how often sending it has failed */
  tries: number
}

/** A link, or the code beside it, that somebody has shown. */
export interface PresentedLink {
  kind: LinkKind
  /** the id of a user; for an invitation, see there */
  owner: string
  to?: string
  locale: Locale
  about: Record<string, string>
  createdAt: number
  /** hands it to what acts on it, in one step */
  taking: RecordTaking
}

/** By a link, or by the code of its mail with the id that the answer to whoever asked for it had. */
export type Presenting = { token: string } | { id: string; code: string }

/** A notice is gone once it is sent. */
const notice = { prefix: 'lkn_', ttlSeconds: 86_400, bounds: { perOwner: 100, perSource: 100_000 } } as const
const triesAtMost = 5

export const mailRecords = (app: Pick<FastifyInstance, 'store' | 'secrets' | 'now'>) =>
  createRecords(app, {
    ...(Object.fromEntries(linkKinds.map((kind) => [kind, { ...linkOf(kind), isSealed: true }])) as {
      [K in LinkKind]: (typeof links)[K] & { isSealed: true }
    }),
    notice: { ...notice, isSealed: true },
  })

/** Links and codes by mail, and notices: a record each, which is its own mail until it is sent. */
function createMail({ config, store, secrets, now }: Pick<FastifyInstance, 'config' | 'store' | 'secrets' | 'now'>) {
  const isOn = transports.some((name) => config[name] !== undefined)
  const records = mailRecords({ store, secrets, now })
  const mac = secrets.mac('mail')
  // Links never lead to where a request says that it was sent to (GHSA-93m4-mfpg-c3xf).
  const base = config.AUTH_PAGES_URL.replace(/\/$/, '')

  const linkTo = (kind: LinkKind, secret: string) => {
    const { path, parameter } = linkOf(kind)
    return `${base}${path}?${parameter}=${secret}`
  }

  return {
    /** whether there is a transport */
    isOn,
    /** as mails and pages call it */
    service: serviceName(config),
    linkTo,
    /** The owner of what belongs to nobody, such as the record of a reset for a name that nobody has. */
    nobody: (text: string): string => mac.sign(Buffer.from(text)).toString('base64url'),

    /**
     * Issues a link, and its code where it has one; it is mailed where there is a `to`. Without, it is an invitation that
     * somebody hands over, or what answers a stranger who asked for nobody's.
     *
     * @param owner the id of a user, or `nobody`; of their links of the kind there is one at a time
     * @param source the network that asks
     * @param says a notice, that is mailed in the place of the link: nobody gets that
     * @throws {Refusal} 429 when there are too many
     */
    async issue(
      kind: LinkKind,
      {
        owner,
        source,
        to,
        locale,
        about = {},
        says,
      }: Told & { owner: string; source: string } & Partial<{
          to: string
          says: NoticeKind
        }>,
    ): Promise<{ id: string; secret: string; link: string; expiresAt: number }> {
      const { hasCode, bounds } = linkOf(kind)
      const code = hasCode && !says ? String(randomInt(10 ** codeDigits)).padStart(codeDigits, '0') : undefined
      const messageOf = (secret: string): Message => {
        const token = says ? undefined : secret
        return omitUndefined({ kind: says ?? kind, to, locale, token, code, about, tries: 0 })
      }
      const isMailed = isOn && to !== undefined
      for (let tries = 1; tries <= triesAtMost; tries++) {
        if (bounds.perOwner === 1) await records.end(owner, [kind])
        const issued = await records.issue(kind, { owner, source, data: messageOf, ...(isMailed && { dueAt: now() }) })
        if (issued) return { ...issued, link: linkTo(kind, issued.secret) }
      }
      throw new Refusal('too_many_requests', {
        reason: `too many links of the kind ${kind}`,
        headers: { 'retry-after': '60' },
      })
    },

    /** What somebody shows, where it is good. A wrong code is counted, and the fifth kills the link, too. */
    async present(kinds: LinkKind[], by: Presenting): Promise<PresentedLink | undefined> {
      for (const kind of kinds) {
        const presented =
          'token' in by
            ? await records.present(kind, by.token)
            : linkOf(kind).hasCode && (await records.guess(kind, by.id, (data) => isCode(by.code, data as Message)))
        if (presented) return linkOfRecord(kind, presented)
      }
      return undefined
    },

    /** Whether an id was given to somebody who asked, and its code may still be guessed at. */
    mayGuess: async (kind: LinkKind, id: string): Promise<boolean> =>
      (await store.findRecord({ kind, id, now: now() })) !== undefined,

    /** Sends a notice. */
    async tell(
      kind: NoticeKind,
      { owner, to, locale, about = {} }: { owner: string; to: string } & Told,
    ): Promise<void> {
      if (!isOn) return
      const message: Message = { kind, to, locale, about, tries: 0 }
      await records.issue('notice', { owner, source: 'notice', data: message, dueAt: now() })
    },

    /** Ends the links of an owner. */
    end: (owner: string, kinds: LinkKind[]): Promise<number> => records.end(owner, kinds),
  }
}

interface Told {
  locale: Locale
  about?: Record<string, string>
}

/** What a mail tells of the request that it is about: nothing in the words of whoever sent it. */
export const factsOf = (origin: Origin, username: string, at: number): Record<string, string> =>
  omitUndefined({ username, at: new Date(at).toISOString(), device: deviceOf(origin), address: origin.address })

const codeDigits = 8

/** Compared in constant time; people type the code in groups. */
function isCode(typed: string, { to, code }: Message): boolean {
  const [one, other] = [typed.replace(/[\s-]/g, ''), code ?? ''].map((text) => Buffer.from(text)) as [Buffer, Buffer]
  return to !== undefined && one.length === other.length && one.length > 0 && timingSafeEqual(one, other)
}

function linkOfRecord(kind: LinkKind, { data, record, taking }: Presented): PresentedLink {
  const { to, locale, about } = data as Message
  return omitUndefined({ kind, owner: record.owner, to, locale, about, createdAt: record.createdAt, taking })
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('mail', createMail(app))
  },
  { name: 'mail', dependencies: ['store', 'secrets'] },
)
