import type { FastifyInstance } from 'fastify'
import type { Amr } from '../../domain/authentication.ts'
import type { Caller } from '../../domain/caller.ts'
import { checked } from '../../domain/checks.ts'
import { type Client, clientBirth } from '../../domain/client.ts'
import type { Granted } from '../../domain/grant.ts'
import { networkText } from '../../domain/network.ts'
import { Refusal } from '../../errors.ts'
import { createRecords } from '../records/records.ts'

/** A sign-in that is under way: what an `auth_session` stands for. */
export interface Flow {
  /** undefined until a passkey has said who it is */
  userId?: string
  /** of the user, when it began */
  generation?: number
  granted: Granted
  codeChallenge?: string
  /** the first factor, where it was shown; of a step-up, what its session says */
  amr?: Amr[]
  /** that is to be raised */
  session?: string
  /** what a passkey is asked to sign with this step */
  webauthn?: string
  /** a factor that the user is to have, and does not yet */
  enrolling?: { kind: 'totp'; id: string; secret: string } | { kind: 'webauthn' }
  /** whether the user is to have a factor by the end of it */
  needsFactor?: boolean
  /** wrong guesses so far */
  misses: number
  /** milliseconds since the epoch; no step moves it on */
  expiresAt: number
}

interface Stored extends Flow {
  client: string
  clientBirth: number | undefined
}

const ttlSeconds = 600
export const mostMisses = 5
const record = {
  prefix: 'lka_',
  ttlSeconds,
  // Strangers have their network as owner. Of one network may be many users, each of whom has shown something.
  bounds: { perOwner: 1_000, perSource: 100_000 },
  isSealed: true,
} as const

/**
 * `auth_session` of draft-ietf-oauth-first-party-apps: each value is good for one step of one client, and the answer to
 * it has the next. Two that come with the same value are one guess, however many they are.
 */
export function createAuthSessions(app: Pick<FastifyInstance, 'store' | 'secrets' | 'now'>) {
  const records = createRecords(app, { challenge: record })
  const gone = (reason: string) =>
    new Refusal('invalid_session', { reason: `the auth_session: ${reason}`, checks: [checked('auth_session', reason)] })

  return {
    newFlow: (granted: Granted): Flow => ({ granted, misses: 0, expiresAt: app.now() + ttlSeconds * 1000 }),

    /**
     * Issues a value. Where a user, or the strangers of a network, have too many sign-ins under way, those before end:
     * else whoever begins a thousand would keep everybody there from signing in until the last has expired.
     *
     * @throws {Refusal} 429 when there are too many from a network all the same
     */
    async issue(caller: Caller, client: Client, flow: Flow): Promise<string> {
      const data: Stored = { ...flow, client: client.id, clientBirth: clientBirth(client) }
      const source = networkText(caller.address)
      const owner = flow.userId ?? source
      const issue = () => records.issue('challenge', { owner, source, data })
      let issued = await issue()
      if (!issued) {
        await records.end(owner, ['challenge'])
        issued = await issue()
      }
      if (issued) return issued.secret
      throw new Refusal('too_many_requests', {
        reason: 'too many sign-ins under way',
        checks: [checked('sign_ins_under_way', 'all', record.bounds.perSource), checked('network', source)],
        headers: { 'retry-after': String(ttlSeconds) },
      })
    },

    /** Takes a value. @throws {Refusal} 400 `invalid_session` */
    async take(client: Client, value: string): Promise<Flow> {
      const found = await records.present('challenge', value)
      if (!found) throw gone('unknown, used or expired')
      const { client: id, clientBirth: birth, ...flow } = found.data as Stored
      // Another client's is not used up by that.
      if (id !== client.id || birth !== clientBirth(client)) throw gone("another client's")
      if (!(await records.take('challenge', value))) throw gone('used a moment ago')
      if (flow.misses >= mostMisses) throw gone(`dead after ${mostMisses} wrong guesses`)
      if (flow.expiresAt <= app.now()) throw gone('expired')
      return flow
    },
    gone,
  }
}

export type AuthSessions = ReturnType<typeof createAuthSessions>
