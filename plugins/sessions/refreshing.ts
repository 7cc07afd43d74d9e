import type { FastifyInstance } from 'fastify'
import type { Caller } from '../../domain/caller.ts'
import { type Check, checked, shortWord } from '../../domain/checks.ts'
import { type Client, clientBirth } from '../../domain/client.ts'
import type { Granted } from '../../domain/grant.ts'
import type { RotationOutcome, Session } from '../../domain/session.ts'
import type { User } from '../../domain/user.ts'
import { Refusal } from '../../errors.ts'
import type { TokenResponse } from '../../schemas/oauth.ts'
import type { Respond } from './answers.ts'
import { sessionLives } from './lives.ts'

/** Keeps sessions alive. What a presented refresh token means is decided by the store in one step (`judgeRotation`). */
export function createRefreshing(
  {
    config,
    changes,
    challenges,
    refreshTokens,
    leaps,
  }: Pick<FastifyInstance, 'config' | 'changes' | 'challenges' | 'refreshTokens' | 'leaps'>,
  respond: Respond,
) {
  const graceMs = config.AUTH_REFRESH_GRACE.ms
  const { idleTtlMs, maxTtlMs, browser } = sessionLives(config)

  const whyRefused: Record<'unknown' | 'expired' | 'signed_out' | 'wrong_client', Check[]> = {
    unknown: [checked('session', 'it has ended, or its user is gone or disabled')],
    signed_out: [
      checked('browser_session', 'it was ended, or this or the next is over'),
      checked('browser_session_idle_seconds', 'this or the next is over', config.AUTH_BROWSER_IDLE_TTL.seconds),
      checked('browser_session_seconds', 'this or the one before is over', config.AUTH_BROWSER_MAX_TTL.seconds),
    ],
    wrong_client: [checked('client', 'another than the session was opened by')],
    expired: [
      checked('session_idle_seconds', 'this or the next is over', config.AUTH_REFRESH_IDLE_TTL.seconds),
      checked('session_seconds', 'this or the one before is over', config.AUTH_REFRESH_MAX_TTL.seconds),
    ],
  }

  /**
   * Trades a refresh token for the next pair, RFC 6749 §6 and RFC 9700 §4.14.2.
   *
   * @param asked of the access token: undefined for the whole scope of the session, which keeps its own
   * @throws {Refusal} `invalid_grant` or `invalid_scope`; a spent token ends its session
   */
  return async function refresh(
    caller: Caller,
    token: string,
    client: Client,
    asked: { scope: string[] | undefined; aud: Granted['aud'] },
  ): Promise<TokenResponse> {
    const presented = refreshTokens.decode(token)
    if (!presented) throw refused('not a refresh token of ours', checked('refresh_token', 'none of ours'))
    const ofSession = () => checked('refresh_token', `of session ${presented.sessionId}`)
    const respondTo = ({ user, session }: { user: User; session: Session }) =>
      respond(user, client, session, { scope: asked.scope ?? session.scope, aud: asked.aud })
    // Signed while the disk writes and this thread would only wait, and handed out when it has.
    let prepared: Promise<TokenResponse> | undefined
    const prepare = (decided: RotationOutcome) => {
      if (decided.outcome !== 'rotated' && decided.outcome !== 'repeated') return
      prepared = respondTo(decided)
      // Where the write fails nobody asks for it any more.
      prepared.catch(() => {})
    }
    const told = (result: RotationOutcome) => {
      if (result.outcome !== 'reused') return undefined
      const { id: sid, userId: sub, clientId: client_id } = result.session
      return { sub, sid, client_id, address: caller.address }
    }
    const result = await changes.make(caller, 'refresh.reused', told, (store, end) => {
      const ending = end()
      // Each by its name: an object that is spread, and then added to, is slow.
      const presentation = {
        now: ending.now,
        idleTtlMs,
        maxTtlMs,
        browser,
        sessionId: presented.sessionId,
        counter: presented.counter,
        address: caller.address,
        userAgent: caller.userAgent,
        clientId: client.id,
        clientCreatedAt: clientBirth(client),
        scope: asked.scope,
        graceMs,
        mayBeWithin: leaps.mayBeWithin,
        mfa: config.AUTH_MFA,
      }
      return store.rotateSession(presentation, ending, prepare)
    })
    switch (result.outcome) {
      case 'rotated':
      case 'repeated':
        return prepared ?? respondTo(result)
      case 'reused':
        throw refused(
          'a spent refresh token came back, and its session was ended',
          checked('refresh_token', `a spent one of session ${presented.sessionId}, which was ended`),
          checked('refresh_grace_seconds', 'over', config.AUTH_REFRESH_GRACE.seconds),
        )
      case 'scope_exceeded':
        throw new Refusal('invalid_scope', {
          detail: 'The scope is wider than the session',
          checks: [checked('session_scope', asked.scope?.map(shortWord).join(' ') ?? ''), ofSession()],
        })
      case 'factor_missing':
        throw await challenges.toGoOn(caller, client, result, asked.aud)
      default:
        throw refused(`refresh refused: ${result.outcome}`, ...whyRefused[result.outcome], ofSession())
    }
  }
}

const refused = (reason: string, ...checks: Check[]) =>
  new Refusal('invalid_grant', { detail: 'The refresh token is not valid', reason, checks })
