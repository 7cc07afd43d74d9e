import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Client } from '../../domain/client.ts'
import { formTargetsOf } from '../../domain/form-targets.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { Browser } from '../browser/browser-sessions.ts'

declare module 'fastify' {
  interface FastifyInstance {
    signOuts: ReturnType<typeof createSignOuts>
  }
}

/** What an app may send along, OpenID Connect RP-Initiated Logout 1.0 §2; what is left out is not there. */
export const signOutParameters = ['id_token_hint', 'client_id', 'post_logout_redirect_uri', 'state'] as const
export type SignOutRequest = Partial<Record<(typeof signOutParameters)[number], string>>

/** What comes of a request to sign out. */
export interface SignOutPlan {
  /** whether it is the app of whoever is signed in that asks, so that nobody else has to be asked */
  isSure: boolean
  /** the app's own page, to which the browser goes afterwards */
  sendTo?: string
  /** where forms of a page on the way may lead to, for `form-action` */
  formTargets: string[]
  /** who asks; undefined where anybody might */
  client?: Client
  /** the page of an app that is said to ask: people may follow a link */
  back?: { client: Client; url: string }
  /** why nobody is led back to the app, which has asked for it: for whoever runs the app */
  problem?: string
}

const isNotOurs = 'The id_token_hint is none that this service has made for a client that it knows'
const isNotRegistered = 'The post_logout_redirect_uri is none of those that the client has registered'
const isMissing = 'The id_token_hint is missing'

/** Decides what requests to sign out are worth. They come from elsewhere, by a link or a form that anybody can make. */
function createSignOuts({ clients, idTokens, sessions }: Pick<FastifyInstance, 'clients' | 'idTokens' | 'sessions'>) {
  const isUsable = (client: Client | undefined): client is Client =>
    client !== undefined && client.disabledAt === undefined

  /**
   * Who has shown an ID token that we have made for them, whether it has expired or not. A `client_id` that is another's
   * makes it worth nothing.
   */
  async function readHint({ id_token_hint, client_id }: SignOutRequest) {
    const hint = id_token_hint === undefined ? undefined : await idTokens.readHint(id_token_hint)
    if (!hint || (client_id !== undefined && client_id !== hint.aud)) return undefined
    const client = await clients.find(hint.aud)
    return isUsable(client) ? { ...hint, client } : undefined
  }

  /** Whether a hint is of a sign-in in this browser. What has ended may have been. */
  async function isOf(browser: Browser, { sub, sid }: { sub: string; sid?: string }): Promise<boolean> {
    if (sub !== browser.user.id) return false
    const session = sid === undefined ? undefined : await sessions.find(sid)
    return session?.parent === undefined || session.parent === browser.session.id
  }

  return {
    async judge(asked: SignOutRequest, browser: Browser | undefined): Promise<SignOutPlan> {
      const { client_id, post_logout_redirect_uri: uri, state } = asked
      const hint = await readHint(asked)
      if (!hint) {
        const isNamed = client_id !== undefined && asked.id_token_hint === undefined
        const client = isNamed ? await clients.find(client_id) : undefined
        const url = isUsable(client) ? addressOf(client, uri, state) : undefined
        const back = client && url !== undefined ? { client, url } : undefined
        const problem = (): string | undefined => {
          if (asked.id_token_hint !== undefined) return isNotOurs
          if (uri === undefined || back) return undefined
          return isUsable(client) ? isNotRegistered : isMissing
        }
        return omitUndefined({ isSure: false, formTargets: [], back, problem: problem() })
      }
      const { client } = hint
      const sendTo = addressOf(client, uri, state)
      const isWell = uri === undefined || sendTo !== undefined
      const isSure = isWell && browser !== undefined && (await isOf(browser, hint))
      return omitUndefined({
        isSure,
        client,
        sendTo,
        formTargets: sendTo === undefined ? [] : formTargetsOf(sendTo),
        problem: isWell ? undefined : isNotRegistered,
      })
    },
  }
}

/** An address that a client has registered, as the same text, with the `state` that it gets back. */
function addressOf(client: Client, uri: string | undefined, state: string | undefined): string | undefined {
  if (uri === undefined || !client.postLogoutRedirectUris?.includes(uri)) return undefined
  if (state === undefined) return uri
  return `${uri}${uri.includes('?') ? '&' : '?'}${new URLSearchParams({ state })}`
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('signOuts', createSignOuts(app))
  },
  { name: 'sign-outs', dependencies: ['clients', 'id-tokens', 'sessions'] },
)
