import { randomInt } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { checked } from '../../domain/checks.ts'
import { type Client, clientBirth } from '../../domain/client.ts'
import type { Granted } from '../../domain/grant.ts'
import { networkText } from '../../domain/network.ts'
import type { RecordTaking } from '../../domain/record.ts'
import { elapsedMs } from '../../domain/time.ts'
import type { User } from '../../domain/user.ts'
import { Refusal } from '../../errors.ts'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'
import { type Authorized, codeRefused } from '../factors/codes.ts'
import { createRecords } from '../records/records.ts'

declare module 'fastify' {
  interface FastifyInstance {
    deviceCodes: ReturnType<typeof createDeviceCodes>
  }
}

/** What a user is asked about. */
export interface DeviceRequest {
  /** of its record */
  id: string
  /** as the device shows it, such as `WDJB-MJHT` */
  userCode: string
  client: Client
  granted: Granted
  /** where the device is */
  address: string
  userAgent: string
  askedAt: number
  /** who has let it sign in already, if anybody has */
  allowedBy?: string
}

interface Stored {
  client: string
  clientBirth?: number | undefined
  granted: Granted
  address: string
  userAgent: string
  /** when the device has last asked, in its time */
  polledAt?: number
  decision?: Authorized | 'refused'
}

/** How long a user has, `expires_in`. */
const ttlSeconds = 600
/** How long a device pauses between two questions; one that comes a second early has a clock of its own. */
const intervalSeconds = 5
const leastPauseMs = (intervalSeconds - 1) * 1000

/** RFC 8628 §6.1: no vowels, so no words. 20^8 are 34 bits, and whoever guesses at them waits after ten. */
const letters = 'BCDFGHJKLMNPQRSTVWXZ'
const length = 8

/** Devices that wait, of a network: whoever asks has shown nothing. */
const mostWaiting = 1_000
const record = {
  prefix: 'lkd_',
  // Twice as long as it is good: a device that comes too late is told so (§3.5).
  ttlSeconds: 2 * ttlSeconds,
  bounds: { perOwner: mostWaiting, perSource: mostWaiting },
} as const
/** The record that has the id of the device's under a MAC of the user code, which is too short for a mere hash. */
const userCodeKind = 'user_code'

/**
 * Sign-ins of devices without a browser, RFC 8628: the device has a code that is 256 random bits, and shows a short one,
 * which its user types at `/device`.
 */
function createDeviceCodes({
  config,
  store,
  secrets,
  clients,
  throttle,
  events,
  now,
}: Pick<FastifyInstance, 'config' | 'store' | 'secrets' | 'clients' | 'throttle' | 'events' | 'now'>) {
  const records = createRecords({ store, secrets, now }, { device: record })
  const mac = secrets.mac('user codes')
  // As of authorization codes: a second use is seen for as long as tokens of the first may be about.
  const keptMs = Math.max(config.AUTH_ACCESS_TTL.ms, ttlSeconds * 1000)

  const idOf = (userCode: string) => mac.sign(Buffer.from(userCode)).toString('base64url')

  /** @returns undefined where the code is taken, or the network has too many */
  async function nameDevice(id: string, source: string, expiresAt: number): Promise<string | undefined> {
    const userCode = Array.from({ length }, () => letters[randomInt(letters.length)]).join('')
    const times = { createdAt: now(), expiresAt, misses: 0, version: 1 }
    const named = { id: idOf(userCode), kind: userCodeKind, owner: id, source, data: id, ...times }
    return (await store.issueRecord(named, { perOwner: 1, perSource: mostWaiting })) ? written(userCode) : undefined
  }

  /** The device that shows a code, while its user may decide, or has. */
  async function find(userCode: string): Promise<DeviceRequest | undefined> {
    const named = await store.findRecord({ kind: userCodeKind, id: idOf(userCode), now: now() })
    const found = named && (await records.name('device', named.data))
    if (!found) return undefined
    const { client: clientId, clientBirth: birth, granted, address, userAgent, decision } = found.data as Stored
    const client = await clients.find(clientId)
    if (decision === 'refused' || !client || client.disabledAt !== undefined || clientBirth(client) !== birth)
      return undefined
    return {
      ...{ id: named.data, userCode: written(userCode), client, granted, address, userAgent },
      askedAt: found.record.createdAt,
      ...(decision && { allowedBy: decision.userId }),
    }
  }

  /** @returns false where it is too late, or was decided before */
  const decide = (id: string, decision: Authorized | 'refused'): Promise<boolean> =>
    retryUntilApplied('The decision about a device', async () => {
      const found = await records.name('device', id)
      const stored = found?.data as Stored | undefined
      if (!found || stored?.decision || isOver(found.record.createdAt)) return { isDecided: false }
      const data = JSON.stringify({ ...stored, decision })
      // The device may have asked meanwhile, which is a change as well.
      return (await store.replaceRecord(found.taking, found.record.version, data)) && { isDecided: true }
    }).then(({ isDecided }) => isDecided)

  const isOver = (askedAt: number) => elapsedMs(askedAt, now()) >= ttlSeconds * 1000

  return {
    /**
     * Begins.
     *
     * @throws {Refusal} 429 where too many devices of a network wait
     */
    async issue(caller: Caller, client: Client, granted: Granted) {
      const { address, userAgent } = caller
      const source = networkText(address)
      const data: Stored = { client: client.id, clientBirth: clientBirth(client), granted, address, userAgent }
      const issued = await records.issue('device', { owner: source, source, data })
      const expiresAt = now() + ttlSeconds * 1000
      for (let tries = 0; issued && tries < 3; tries++) {
        const userCode = await nameDevice(issued.id, source, expiresAt)
        if (userCode) return { deviceCode: issued.secret, userCode, ttlSeconds, intervalSeconds }
      }
      throw new Refusal('too_many_requests', {
        reason: 'too many devices wait for their users',
        checks: [checked('devices_waiting', 'all', mostWaiting), checked('network', source)],
        headers: { 'retry-after': String(ttlSeconds) },
      })
    },

    /**
     * The device that shows a code. A wrong one is a guess, and counted for the user who makes it (RFC 8628 §5.1).
     *
     * @param typed in any case, with whatever stands between its letters
     * @throws {Refusal} 429 `too_many_failures`
     */
    async typedBy(caller: Caller, user: User, typed: string): Promise<DeviceRequest | undefined> {
      const userCode = typed.toUpperCase().replace(/[^A-Z]/g, '')
      let found: DeviceRequest | undefined
      await throttle.guard(
        caller,
        'user_code',
        user.id,
        () => user,
        async (_user, judge) => {
          found = await find(userCode)
          return judge(() => found !== undefined)
        },
        // Or whoever has a device would have any number of guesses at the codes of others.
        () => false,
      )
      return found
    },

    /** @param authorized what the device gets @returns false where it is too late, or was decided before */
    async allow(caller: Caller, { id, client, address }: DeviceRequest, authorized: Authorized): Promise<boolean> {
      const isAllowed = await decide(id, authorized)
      const told = { sub: authorized.userId, client_id: client.id, device_address: address }
      if (isAllowed) events.emit(caller, 'device.allowed', told)
      return isAllowed
    },

    /** @returns false where it is too late, or was decided before */
    async refuse(caller: Caller, { id, client, address }: DeviceRequest, user: User): Promise<boolean> {
      const isRefused = await decide(id, 'refused')
      const told = { sub: user.id, client_id: client.id, device_address: address }
      if (isRefused) events.emit(caller, 'device.refused', told)
      return isRefused
    },

    /**
     * Looks up what a device may have, RFC 8628 §3.5.
     *
     * @returns as of `codes.present`
     * @throws {Refusal} `authorization_pending`, `slow_down`, `access_denied`, `expired_token`; `invalid_grant` for a code
     * that is unknown or another client's
     */
    async present(
      client: Client,
      deviceCode: string,
    ): Promise<{ authorized: Authorized; takingFor(sid: string): RecordTaking } | { gave: string }> {
      const found = await records.find('device', deviceCode)
      if (!found) throw deviceCodeRefused('unknown, or long expired')
      const { record, data } = found
      if (record.spentAt !== undefined) return { gave: record.gave ?? '' }
      const stored = data as Stored
      const { client: id, clientBirth: birth, polledAt, decision } = stored
      if (id !== client.id || birth !== clientBirth(client)) throw deviceCodeRefused("another client's")
      if (isOver(record.createdAt)) throw new Refusal('expired_token')
      if (decision === 'refused') throw new Refusal('device_refused')
      if (decision) {
        const takingFor = (gave: string) => records.taking('device', deviceCode, { gave, until: now() + keptMs })
        return { authorized: decision, takingFor }
      }
      if (polledAt !== undefined && elapsedMs(polledAt, now()) < leastPauseMs) throw new Refusal('slow_down')
      // Where this comes second, the user has decided, or the device has asked twice at once.
      const key = { kind: 'device', id: record.id, now: now() }
      await store.replaceRecord(key, record.version, JSON.stringify({ ...stored, polledAt: now() }))
      throw new Refusal('authorization_pending')
    },
  }
}

/** As people read it out. */
const written = (userCode: string) => `${userCode.slice(0, length / 2)}-${userCode.slice(length / 2)}`

const deviceCodeRefused = (reason: string) => codeRefused(reason, checked('device_code', reason))

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('deviceCodes', createDeviceCodes(app))
  },
  { name: 'device-codes', dependencies: ['store', 'secrets', 'clients', 'throttle', 'events'] },
)
