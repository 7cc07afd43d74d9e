import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { checked } from '../../domain/checks.ts'
import { networkText } from '../../domain/network.ts'
import type { ShortRecord } from '../../domain/record.ts'
import { Refusal } from '../../errors.ts'
import type { MailKind } from './kinds.ts'

declare module 'fastify' {
  interface FastifyInstance {
    mailLimits: ReturnType<typeof createMailLimits>
  }
}

/** So many within so long. */
interface Window {
  most: number
  ms: number
}

const [minuteMs, hourMs, dayMs] = [60_000, 3_600_000, 86_400_000]
/** Of the mails of a kind to one address. */
const ofAnAddress: Window[] = [
  { most: 1, ms: minuteMs },
  { most: 5, ms: hourMs },
  { most: 20, ms: dayMs },
]
/** Of what one network asks for. */
const ofANetwork: [Window] = [{ most: 20, ms: hourMs }]

const kind = 'mail_limit'
/** Of those who count at once, one is done at a time; whoever waits for longer than this is over the limit anyway. */
const triesAtMost = 50

/**
 * How many mails may be asked for, to one address and from one network, by all replicas together. The times of what was
 * asked for are records, one for each period of the longest window, which change by compare-and-set.
 */
function createMailLimits({
  config,
  store,
  secrets,
  now,
}: Pick<FastifyInstance, 'config' | 'store' | 'secrets' | 'now'>) {
  const isOff = config.AUTH_THROTTLE === 'off'
  const mac = secrets.mac('mail limits')

  const longestOf = (windows: Window[]) => Math.max(...windows.map(({ ms }) => ms))
  const idOf = (name: string, period: number) => mac.sign(Buffer.from(`${period} ${name}`)).toString('base64url')

  /**
   * @param isSilent whether nobody may see, by the time that it takes, what comes out
   * @returns how long to wait, in milliseconds; 0 where it is counted
   */
  async function count(name: string, windows: Window[], isSilent: boolean): Promise<number> {
    if (isOff) return 0
    const longest = longestOf(windows)
    const most = Math.max(...windows.map((window) => window.most))
    for (let tries = 1; tries <= triesAtMost; tries++) {
      const at = now()
      const period = Math.floor(at / longest)
      const find = (id: string) => store.findRecord({ kind, id, now: at })
      const [before, record] = await Promise.all([find(idOf(name, period - 1)), find(idOf(name, period))])
      const times = timesOf(record)
      // By a clock that was ahead: as if it were now.
      const all = [...timesOf(before), ...times].map((time) => Math.min(time, at))
      const replace = ({ id, version }: ShortRecord, data: string) =>
        store.replaceRecord({ kind, id, now: at }, version, data)
      const waitMs = Math.max(0, ...windows.map((window) => leftOf(window, all, at)))
      if (waitMs > 0) {
        const seen = record ?? before
        if (seen && isSilent) await replace(seen, seen.data)
        return waitMs
      }
      const data = JSON.stringify([...times, at].slice(-most))
      if (record) {
        if (await replace(record, data)) return 0
        continue
      }
      const id = idOf(name, period)
      const made = { id, kind, owner: id, source: id, data, createdAt: at, expiresAt: (period + 2) * longest }
      if (await store.issueRecord({ ...made, misses: 0, version: 1 }, { perOwner: 1, perSource: 1 })) return 0
    }
    return Math.min(...windows.map(({ ms }) => ms))
  }

  /** Takes back what was counted last, for what could not be done then. */
  async function uncount(name: string, windows: Window[]): Promise<void> {
    const key = { kind, id: idOf(name, Math.floor(now() / longestOf(windows))), now: now() }
    const record = await store.findRecord(key)
    if (record) await store.replaceRecord(key, record.version, JSON.stringify(timesOf(record).slice(0, -1)))
  }

  /**
   * Counts a mail. Whoever asks is told nothing.
   * @param emailKey the mapped address, or whatever a stranger has named @returns whether it may be sent
   */
  const ofAddress = async (kind: MailKind, emailKey: string): Promise<boolean> =>
    (await count(addressName(kind, emailKey), ofAnAddress, true)) === 0

  return {
    ofAddress,
    /**
     * Counts a mail, and takes it back where it cannot be written: whoever asks again gets it.
     * @param issue is told whether it may be sent
     */
    async within<Result>(
      kind: MailKind,
      emailKey: string,
      issue: (isAllowed: boolean) => Promise<Result>,
    ): Promise<Result> {
      const isAllowed = await ofAddress(kind, emailKey)
      try {
        return await issue(isAllowed)
      } catch (error) {
        // Where the store does not answer now either, the next minute will have to do.
        if (isAllowed && !isOff) await uncount(addressName(kind, emailKey), ofAnAddress).catch(() => {})
        throw error
      }
    },
    /** Counts what the network of a caller asks for; administrators may ask for more. @throws {Refusal} 429 */
    async ofSource({ address, by }: Pick<Caller, 'address' | 'by'>): Promise<void> {
      if (by !== undefined) return
      const network = networkText(address)
      const waitMs = await count(`source ${network}`, ofANetwork, false)
      if (waitMs === 0) return
      const [{ most }] = ofANetwork
      const detail = 'Your network has asked for too many mails; try again later'
      const checks = [checked('mails_asked_for', most, most), checked('network', network)]
      throw new Refusal('too_many_requests', { detail, checks, headers: retryAfter(waitMs) })
    },
  }
}

const timesOf = (record: ShortRecord | undefined): number[] => (record ? JSON.parse(record.data) : [])
const addressName = (kind: MailKind, emailKey: string) => `address ${kind} ${emailKey}`
const retryAfter = (waitMs: number) => ({ 'retry-after': String(Math.ceil(waitMs / 1000)) })

/** How long until another fits into a window. @param times the oldest first */
function leftOf({ most, ms }: Window, times: number[], now: number): number {
  const first = times.filter((time) => now - time < ms).at(-most)
  return first === undefined ? 0 : first + ms - now
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('mailLimits', createMailLimits(app))
  },
  { name: 'mail-limits', dependencies: ['store', 'secrets'] },
)
