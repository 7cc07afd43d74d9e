import { createHash } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Authentication } from '../../domain/authentication.ts'
import type { Caller } from '../../domain/caller.ts'
import { type Check, checked } from '../../domain/checks.ts'
import { type Client, clientBirth } from '../../domain/client.ts'
import type { Granted } from '../../domain/grant.ts'
import { networkText } from '../../domain/network.ts'
import type { RecordTaking } from '../../domain/record.ts'
import { Refusal } from '../../errors.ts'
import { createRecords } from '../records/records.ts'

declare module 'fastify' {
  interface FastifyInstance {
    codes: ReturnType<typeof createCodes>
  }
}

/** What an authorization code stands for. */
export interface Authorized {
  userId: string
  /** of the user */
  generation: number
  granted: Granted
  /** left out for a mere password */
  authentication?: Authentication
  /** BASE64URL(SHA-256(code_verifier)), RFC 7636 §4.2 */
  codeChallenge?: string
  /** that is raised, in the place of one that is opened */
  session?: string
  /** where the code was sent: to be said again (RFC 6749 §4.1.3). None for a code of `POST /challenge` */
  redirectUri?: string
  /** the `BrowserSession` that the user allowed it in, and where that is: the client may be a server elsewhere */
  browser?: { id: string; address: string; userAgent: string }
  /** the user has allowed it, now or before: it is worth nothing once they have taken that back */
  isConsented?: true
  /** for the ID token, OpenID Connect Core §3.1.2.1 */
  nonce?: string
  /** claims of the user that the ID token is to have, too (OpenID Connect Core §5.5) */
  idTokenClaims?: string[]
  /**
   * `exp` of the access token that was all that came for it: it gives another that lasts no longer, and no refresh token.
   * An access token gets around among APIs, and what it gives must not be more than it is.
   */
  lastsUntil?: number
}

interface Stored extends Authorized {
  client: string
  clientBirth: number | undefined
}

const codeRecord = { prefix: 'lkc_', ttlSeconds: 60, bounds: { perOwner: 100, perSource: 100_000 } } as const

/** RFC 7636 §4.1 */
const wellFormedVerifier = /^[A-Za-z0-9._~-]{43,128}$/

/** What comes with a code. */
interface CodeProof {
  verifier?: string | undefined
  redirectUri?: string | undefined
}

/** Authorization codes, RFC 6749 §4.1.2: good once, for a minute, for one client. */
function createCodes({ config, store, secrets, now }: Pick<FastifyInstance, 'config' | 'store' | 'secrets' | 'now'>) {
  const records = createRecords({ store, secrets, now }, { code: codeRecord })
  // A second use is seen for as long as tokens of the first may be about, and for as long as the code would be good.
  const keptMs = Math.max(config.AUTH_ACCESS_TTL.ms, codeRecord.ttlSeconds * 1000)

  return {
    /**
     * Issues a code. Where a user has a hundred that nobody has traded in, those before end: else whoever has an access
     * token of theirs could keep them from signing in.
     *
     * @throws {Refusal} 429 where there are too many from a network
     */
    async issue(caller: Caller, client: Client, authorized: Authorized): Promise<string> {
      const data: Stored = { ...authorized, client: client.id, clientBirth: clientBirth(client) }
      const source = networkText(caller.address)
      const owner = authorized.userId
      const issue = () => records.issue('code', { owner, source, data })
      let issued = await issue()
      if (!issued) {
        await records.end(owner, ['code'])
        issued = await issue()
      }
      if (issued) return issued.secret
      throw new Refusal('too_many_requests', {
        reason: 'too many codes that nobody has traded in',
        checks: [checked('sign_ins_under_way', 'all', codeRecord.bounds.perSource)],
        headers: { 'retry-after': String(codeRecord.ttlSeconds) },
      })
    },

    /**
     * Looks a code up. It is taken by what is made of it, in the step of the store that makes that.
     *
     * @returns what it stands for; or, of one that was spent, what it gave: whoever brings it a second time may have
     *   stolen it, or the first one has (RFC 6749 §4.1.2)
     * @throws {Refusal} `invalid_grant` for one that is unknown, expired, another client's, or without its verifier or its
     * `redirect_uri`
     */
    async present(
      client: Client,
      code: string,
      { verifier, redirectUri }: CodeProof,
    ): Promise<{ authorized: Authorized; takingFor(sid: string): RecordTaking } | { gave: string }> {
      const found = await records.find('code', code)
      if (!found) throw codeRefused('unknown, or expired')
      const { record, data } = found
      if (record.spentAt !== undefined) return { gave: record.gave ?? '' }
      const { client: id, clientBirth: birth, ...authorized } = data as Stored
      if (id !== client.id || birth !== clientBirth(client)) throw codeRefused("another client's")
      // Else a code that was sent to another address of the client, and caught there, could be traded in here.
      if (redirectUri !== authorized.redirectUri)
        throw codeRefused('the redirect_uri is another, or one of the two is missing')
      // A verifier that nothing asked for is refused as well: the challenge may have been taken out (RFC 9700 §4.8.2).
      const isVerified =
        verifier === undefined
          ? authorized.codeChallenge === undefined
          : wellFormedVerifier.test(verifier) && challengeOf(verifier) === authorized.codeChallenge
      if (!isVerified) throw codeRefused('the code_verifier is another, or one of the two is missing')
      return {
        authorized,
        takingFor: (gave) => records.taking('code', code, { gave, until: now() + keptMs }),
      }
    },
  }
}

const challengeOf = (verifier: string) => createHash('sha256').update(verifier).digest('base64url')

/** 400 `invalid_grant`, the same for whatever is wrong with a code. */
export const codeRefused = (reason: string, ...checks: Check[]): Refusal =>
  new Refusal('invalid_grant', {
    detail: 'The code is not valid',
    reason: `the code: ${reason}`,
    checks: checks.length > 0 ? checks : [checked('authorization_code', reason)],
  })

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('codes', createCodes(app))
  },
  { name: 'codes', dependencies: ['store', 'secrets'] },
)
