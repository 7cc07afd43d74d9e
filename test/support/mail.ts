import type { FastifyInstance } from 'fastify'
import type { Message } from '../../plugins/mail/mail.ts'
import { recordContext } from '../../plugins/records/records.ts'
import { newDir, type Scope } from './basics.ts'
import { storeOf } from './helper.ts'

/** Settings by which mails are files of a new directory. */
export const mailsInto = async (t: Scope): Promise<Record<string, string>> => ({
  AUTH_MAIL_FROM: 'Latchkey <accounts@example.com>',
  AUTH_MAIL_DIR: await newDir(t),
})

/** Mails that were to be sent, with what only their readers get. */
export interface Outbox {
  mails: Message[]
  /** the last one to an address, in any spelling; fails where there is none */
  last(to: string): Message
}

/** Collects what an app has to send from now on, whether it sends it or not. */
export function outboxOf(app: FastifyInstance): Outbox {
  const store = storeOf(app)
  const mails: Message[] = []
  const issue = store.issueRecord
  store.issueRecord = async (record, bounds) => {
    const isIssued = await issue.call(store, record, bounds)
    const opened = isIssued && record.dueAt !== undefined && openRecord(app, record)
    if (opened) mails.push(opened)
    return isIssued
  }
  return {
    mails,
    last(to) {
      const mail = mails.findLast((mail) => mail.to === to)
      if (!mail) throw new Error(`no mail to ${to}`)
      return mail
    },
  }
}

function openRecord(app: FastifyInstance, { kind, id, data }: { kind: string; id: string; data: string }) {
  const opened = app.secrets.open(Buffer.from(data, 'base64url'), recordContext(kind, id))
  return opened && (JSON.parse(opened.plaintext.toString()) as Message)
}
