import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { knownVisit, visitOf } from '../browser/cookies.ts'

/** A page of ours that is for somebody who has signed in. */
export interface PageRequest {
  kind: 'page'
  /** its path below the issuer's, with the query */
  to: string
  /** milliseconds since the epoch */
  askedAt: number
  /** since the sign-in, at most */
  maxAgeSeconds?: number
  /** whether it is for those alone who have shown all that they have */
  needsHighest?: true
}

/** What an app asks for, RFC 6749 §4.1.1 and OpenID Connect Core §3.1.2.1: read, and good. */
export interface AuthorizationRequest {
  kind: 'authorization'
  clientId: string
  /** of the client, as in `Session` */
  clientCreatedAt?: number
  redirectUri: string
  responseMode: 'query' | 'form_post'
  state?: string
  scope: string[]
  aud: string | string[]
  nonce?: string
  codeChallenge?: string
  prompt: Prompt[]
  maxAgeSeconds?: number
  loginHint?: string
  /** whom the `id_token_hint` names */
  hintSub?: string
  /** the second level is asked for: of everybody, or of those who have a factor */
  factor?: 'always' | 'if_possible'
  idTokenClaims?: string[]
  askedAt: number
}

export const prompts = ['none', 'login', 'consent', 'select_account', 'create'] as const
export type Prompt = (typeof prompts)[number]

/** What somebody signs in for. */
export type Pending = PageRequest | AuthorizationRequest

/** So long somebody may take to sign in. */
const pendingTtlMs = 3_600_000

/**
 * What a sign-in is for goes along with its pages, sealed, and not into the store: whoever begins a million sign-ins has
 * written nothing. It opens in the browser alone that it was sealed for, so that nobody can be sent into the middle of
 * another's.
 */
export function createPending({ secrets, cookies, now }: Pick<FastifyInstance, 'secrets' | 'cookies' | 'now'>) {
  const contextOf = (visit: string) => `pending of ${visit}`
  return {
    /** For the `request` in URLs of ours and in forms. */
    seal(request: FastifyRequest, reply: FastifyReply, pending: Pending): string {
      const context = contextOf(visitOf(cookies, request, reply))
      return secrets.seal(Buffer.from(JSON.stringify(pending)), context).toString('base64url')
    },
    /** @returns undefined for what is too old, of another browser, or not ours */
    open(request: FastifyRequest, text: string): Pending | undefined {
      const visit = knownVisit(cookies, request)
      const bytes = Buffer.from(text, 'base64url')
      if (visit === undefined || bytes.length < 30) return undefined
      const opened = secrets.open(bytes, contextOf(visit))
      const pending = opened && (JSON.parse(opened.plaintext.toString()) as Pending)
      return pending && now() - pending.askedAt < pendingTtlMs ? pending : undefined
    },
  }
}
