import type { FastifyInstance } from 'fastify'
import type { Caller } from '../../../domain/caller.ts'
import { type Client, clientBirth } from '../../../domain/client.ts'
import { covers } from '../../../domain/consent.ts'
import { omitUndefined } from '../../../domain/omit-undefined.ts'
import type { RecordTaking } from '../../../domain/record.ts'
import { type Authorized, codeRefused } from '../../../plugins/factors/codes.ts'
import type { TokenResponse } from '../../../schemas/oauth.ts'

/** What a code stands for; or, of one that was spent, what it gave. */
type Presented = { authorized: Authorized; takingFor(sid: string): RecordTaking } | { gave: string }

/**
 * Trades a code that is good once. A second use ends what the first gave, for one of the two has stolen it, RFC 6749
 * §4.1.2.
 *
 * @param present looks the code up
 * @throws {Refusal} `invalid_grant`
 */
export async function tradeOnce(
  { store, sessions, events }: FastifyInstance,
  { caller, client }: { caller: Caller; client: Client },
  present: () => Promise<Presented>,
): Promise<TokenResponse> {
  const presented = await present()
  const answer = 'gave' in presented ? undefined : await sessions.openByCode(caller, client, presented)
  const isWithdrawn = answer && 'authorized' in presented && (await wasWithdrawn(client, presented.authorized))
  if (answer && !isWithdrawn) return answer
  const spent = 'gave' in presented ? presented : await present()
  if (!('gave' in spent)) throw codeRefused('its user has changed, or may not have tokens')
  const session = await store.findSession(spent.gave)
  if (session?.clientId === client.id) {
    await sessions.end(caller, session.id, session.userId)
    if (!isWithdrawn) events.emit(caller, 'code.reused', { client_id: client.id, sid: session.id })
  }
  throw codeRefused(
    isWithdrawn
      ? 'its user has taken back what they had allowed the client'
      : 'it came a second time, and what it gave was ended',
  )

  /**
   * Whether the user has taken back meanwhile what they had allowed the client. Asked once the session is there: whoever
   * takes it back later than this finds the session, and ends it.
   */
  async function wasWithdrawn(of: Client, { userId, granted, isConsented }: Authorized): Promise<boolean> {
    if (!isConsented) return false
    const its = omitUndefined({ clientId: of.id, clientCreatedAt: clientBirth(of) })
    return !covers((await store.findConsents(userId))?.consents ?? [], its, granted.scope)
  }
}
