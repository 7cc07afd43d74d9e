import { createHash, randomBytes } from 'node:crypto'
import type { FastifyInstance, InjectOptions } from 'fastify'
import * as oauth from 'oauth4webapi'
import { type Opened, openBrowser } from './browser.ts'
import type { Credentials } from './client-helper.ts'
import { password } from './helper.ts'

/*
 * An app that signs its users in by OpenID Connect, as the OpenID Foundation's tests are one. What comes back is judged
 * by a certified library, which is strict: issuer, audience, times, nonce, at_hash, and the signature by the key set.
 */

export const callback = 'https://app.example/callback'

/** A code and what came with it. */
export interface Returned {
  /** the parameters that came back */
  parameters: URLSearchParams
  /** as the request had them */
  asked: Record<string, string>
}

export interface SignedIn {
  accessToken: string
  refreshToken: string
  idToken: string
  /** of the ID token, after all checks */
  claims: oauth.IDToken
  /** the whole answer */
  answer: oauth.TokenEndpointResponse
}

/** The service, over no socket. */
const fetchOf = (app: FastifyInstance) => async (url: string, options: oauth.CustomFetchOptions<string, unknown>) => {
  const { pathname, search } = new URL(url)
  const answer = await app.inject({
    method: options.method as 'GET',
    url: pathname + search,
    headers: options.headers,
    ...(options.body !== undefined && options.body !== null && { payload: String(options.body) }),
  })
  return new Response(answer.rawPayload, {
    status: answer.statusCode,
    headers: answer.headers as Record<string, string>,
  })
}

/**
 * @param credentials of a client that has `callback` as its redirect_uri
 * @param browser of its user
 */
export async function openRelyingParty(
  app: FastifyInstance,
  { id, secret }: Credentials,
  browser = openBrowser(app),
  { auth = oauth.ClientSecretBasic(secret), username = 'ada' } = {},
) {
  const options = { [oauth.customFetch]: fetchOf(app) }
  const issuer = new URL(app.config.AUTH_ISSUER)
  const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, options))
  // By the clock of the test.
  const client: oauth.Client = { client_id: id, [oauth.clockTolerance]: 30 }

  /** The URL that a browser is sent to. An empty value leaves a parameter out. */
  function urlFor(parameters: Record<string, string> = {}) {
    const asked = {
      client_id: id,
      redirect_uri: callback,
      response_type: 'code',
      scope: 'openid',
      state: randomBytes(12).toString('base64url'),
      nonce: randomBytes(12).toString('base64url'),
      ...parameters,
    }
    const said = Object.entries(asked).filter(([, value]) => value !== '')
    return { asked, url: `${as.authorization_endpoint}?${new URLSearchParams(said)}` }
  }

  /** Does what a page asks for, until an answer leads to the app or nothing is asked for any more. */
  async function finish(page: Opened): Promise<Opened> {
    if (page.statusCode !== 200) return page
    if (page.url.startsWith('/sign-in')) return finish(await browser.submit(page, { username, password }))
    if (page.url.startsWith('/consent')) return finish(await browser.submit(page, { decision: 'allow' }))
    return page
  }

  /** What an answer that leads to the app brings there. @throws where it leads nowhere, or does not belong to the request */
  function read(answer: Opened, asked: Record<string, string>): Returned {
    const to = new URL(String(answer.headers['location']))
    if (answer.statusCode !== 303 || `${to.origin}${to.pathname}` !== callback)
      throw new Error(`not to the app: ${answer.statusCode} ${answer.headers['location']} ${answer.body}`)
    const parameters = oauth.validateAuthResponse(as, client, to, asked['state'] || oauth.expectNoState)
    return { parameters, asked }
  }

  /** Trades a code. @throws {oauth.ResponseBodyError} where it is refused */
  async function trade({ parameters, asked }: Returned, verifier: string | typeof oauth.nopkce = oauth.nopkce) {
    const response = await oauth.authorizationCodeGrantRequest(
      as,
      client,
      auth,
      parameters,
      callback,
      verifier,
      options,
    )
    const answer = await oauth.processAuthorizationCodeResponse(as, client, response, {
      expectedNonce: asked['nonce'] || oauth.expectNoNonce,
      requireIdToken: true,
    })
    return accept(response, answer)
  }

  async function accept(response: Response, answer: oauth.TokenEndpointResponse): Promise<SignedIn> {
    await oauth.validateApplicationLevelSignature(as, response, options)
    return {
      answer,
      accessToken: answer.access_token,
      refreshToken: answer.refresh_token as string,
      idToken: answer.id_token as string,
      claims: oauth.getValidatedIdTokenClaims(answer) as oauth.IDToken,
    }
  }

  return {
    as,
    browser,
    urlFor,
    read,
    trade,

    /** Sends the browser there, where it does what it is asked for. @throws {oauth.AuthorizationResponseError} */
    async authorize(parameters?: Record<string, string>): Promise<Returned> {
      const { url, asked } = urlFor(parameters)
      return read(await finish(await browser.open(url)), asked)
    },

    /** The same, without a page: as a browser that is signed in already, and for `prompt=none`. */
    async authorizeSilently(parameters?: Record<string, string>): Promise<Returned> {
      const { url, asked } = urlFor(parameters)
      return read(await browser.open(url), asked)
    },

    /** Sends the browser there, and stops at the page that it comes to. */
    pageFor: (parameters?: Record<string, string>): Promise<Opened> => browser.open(urlFor(parameters).url),
    finish,

    async signIn(parameters?: Record<string, string>): Promise<SignedIn> {
      return trade(await this.authorize(parameters))
    },

    async refresh(refreshToken: string): Promise<SignedIn> {
      const response = await oauth.refreshTokenGrantRequest(as, client, auth, refreshToken, options)
      return accept(response, await oauth.processRefreshTokenResponse(as, client, response))
    },

    /** @throws where it is of another user */
    async userInfo({ accessToken, claims }: SignedIn): Promise<oauth.UserInfoResponse> {
      const response = await oauth.userInfoRequest(as, client, accessToken, options)
      return oauth.processUserInfoResponse(as, client, claims.sub, response)
    },

    /** Asks for the user with a request of one's own. */
    askUserInfo: (request: InjectOptions) =>
      app.inject({ ...request, url: new URL(as.userinfo_endpoint as string).pathname }),
  }
}

/** What proves that the code comes back to who has asked for it (PKCE). */
export function newProof() {
  const verifier = randomBytes(32).toString('base64url')
  const challenge = createHash('sha256').update(verifier).digest('base64url')
  return { verifier, asked: { code_challenge: challenge, code_challenge_method: 'S256' } }
}

/** The error that the app is told, with `prompt=none` say. */
export async function errorOf(answer: Promise<unknown>): Promise<string> {
  try {
    await answer
  } catch (error) {
    if (error instanceof oauth.AuthorizationResponseError || error instanceof oauth.ResponseBodyError)
      return error.error
    throw error
  }
  return 'none'
}
