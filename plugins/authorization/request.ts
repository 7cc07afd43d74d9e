import type { FastifyInstance } from 'fastify'
import { firstKnownAcr, twoFactors } from '../../domain/authentication.ts'
import { checked, shortWord } from '../../domain/checks.ts'
import { adminScope, type Client, clientBirth, grantsOf, needsPkce } from '../../domain/client.ts'
import { audienceOf, parseScope } from '../../domain/grant.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import { isRegistered } from '../../domain/redirect-uri.ts'
import { openIdScope, openIdScopes } from '../../domain/scope.ts'
import { Refusal } from '../../errors.ts'
import { type ClaimsRequest, readClaimsRequest } from './claims.ts'
import { type Parameters, parameterOf, wrongRequest } from './parameters.ts'
import { type AuthorizationRequest, type Prompt, prompts } from './pending.ts'

/** Where an answer may be sent. */
export interface Destination {
  client: Client
  redirectUri: string
}

/** All that is kept of a request travels in URLs of ours; more than this is too long for some proxies. */
const mostCharacters = 6_000

/** Reads requests for authorization: at `/authorize`, and at `/par`. */
export function createRequestReader({
  config,
  clientMetadata,
  idTokens,
  now,
}: Pick<FastifyInstance, 'config' | 'clientMetadata' | 'idTokens' | 'now'>) {
  /**
   * Finds out where an answer may be sent. Until that is known nothing may be sent anywhere: a stranger could have this
   * service lead browsers to where they like (open redirect, RFC 9700 §4.11).
   *
   * @throws {Refusal} which is for a page of ours
   */
  async function destination(parameters: Parameters): Promise<Destination> {
    const id = parameterOf(parameters, 'client_id')
    const client = id === undefined ? undefined : await clientMetadata.find(id)
    if (!client || client.disabledAt !== undefined) {
      const seen = id === undefined ? 'none, or more than one' : client ? `disabled: ${client.id}` : 'unknown client'
      throw new Refusal('invalid_request', {
        detail: 'The client_id is missing, or no client has it',
        checks: [checked('client', seen)],
      })
    }
    const asked = parameterOf(parameters, 'redirect_uri')
    if (asked !== undefined && isRegistered(client, asked)) return { client, redirectUri: asked }
    const [detail, seen] =
      asked === undefined
        ? ['The redirect_uri is missing', 'none, or more than one']
        : ['The redirect_uri is none of those that the client has registered', asked]
    const registered = client.redirectUris?.join(' ') || 'none'
    throw new Refusal('invalid_request', {
      detail,
      checks: [checked('redirect_uri', seen, registered), checked('client', client.id)],
    })
  }

  /**
   * Reads all the rest.
   *
   * @throws {Refusal} which is for the client
   */
  async function read({ client, redirectUri }: Destination, parameters: Parameters): Promise<AuthorizationRequest> {
    const value = (name: string) => parameterOf(parameters, name)
    for (const [name, all] of Object.entries(parameters))
      if (Array.isArray(all) && name !== 'resource') throw wrongRequest(`The parameter ${shortWord(name)} is repeated`)
    if (value('request') !== undefined) throw new Refusal('request_not_supported')
    if (value('request_uri') !== undefined) throw new Refusal('request_uri_not_supported')
    const type = value('response_type')
    if (type === undefined) throw wrongRequest('The parameter response_type is missing')
    if (type !== 'code')
      throw new Refusal('unsupported_response_type', { checks: [checked('response_type', shortWord(type), 'code')] })
    const mode = value('response_mode') ?? 'query'
    if (mode !== 'query' && mode !== 'form_post') throw wrongRequest('The response_mode must be query or form_post')
    const grants = grantsOf(client)
    if (!grants.includes('authorization_code')) {
      const given = checked('client_grants', 'authorization_code', grants.join(', ') || 'none')
      throw new Refusal('unauthorized_client', { checks: [given, checked('client', client.id)] })
    }
    const prompt = readPrompt(value('prompt'))
    const claims = readClaimsRequest(value('claims'))
    const scope = readScope(client, value('scope'), claims)
    const asked: AuthorizationRequest = {
      kind: 'authorization',
      clientId: client.id,
      redirectUri,
      responseMode: mode,
      scope,
      aud: readAudience(
        client,
        [parameters['resource'] ?? []].flat().filter((one) => one !== ''),
      ),
      prompt,
      askedAt: now(),
      ...omitUndefined({
        clientCreatedAt: clientBirth(client),
        state: value('state'),
        nonce: value('nonce'),
        codeChallenge: readCodeChallenge(client, value('code_challenge'), value('code_challenge_method')),
        maxAgeSeconds: readMaxAge(value('max_age')),
        loginHint: value('login_hint')?.slice(0, 320),
        hintSub: await readHint(value('id_token_hint'), prompt),
        factor: readFactor(value('acr_values'), claims),
        idTokenClaims: scope.includes(openIdScope) && claims.ofIdToken.length > 0 ? claims.ofIdToken : undefined,
      }),
    }
    if (JSON.stringify(asked).length > mostCharacters)
      throw wrongRequest(`The request is longer than ${mostCharacters} characters, its state say`)
    return asked
  }

  /** Names that are unknown are left out, RFC 6749 §3.3: the answer says what was given. */
  function readScope(client: Client, text: string | undefined, { scopes }: ClaimsRequest): string[] {
    if (text === undefined) return client.scopes.filter((name) => name !== adminScope)
    const names = parseScope(text)
    if (!names)
      throw new Refusal('invalid_scope', { detail: 'The scope is malformed', checks: [checked('scope', 'malformed')] })
    const known = names.filter((name) => client.scopes.includes(name) || openIdScopes.some((one) => one === name))
    return known.includes(openIdScope) ? [...new Set([...known, ...scopes])] : known
  }

  /** RFC 8707 §2, which may name several. */
  function readAudience(client: Client, resources: string[]): string | string[] {
    const audience = audienceOf(client, config.AUTH_AUDIENCE)
    if (resources.some((resource) => !audience.includes(resource))) {
      const failed = checked('client_audience', 'another', audience.join(' '))
      throw new Refusal('invalid_target', { checks: [failed, checked('client', client.id)] })
    }
    const [first, ...more] = resources.length > 0 ? [...new Set(resources)] : audience
    return more.length === 0 ? (first as string) : [first as string, ...more]
  }

  /**
   * Whom an ID token of before names. One that cannot be read may be of a key that is gone: whoever signs in is as good
   * as any; but without a word to the user it is nobody.
   */
  async function readHint(hint: string | undefined, prompt: Prompt[]): Promise<string | undefined> {
    if (hint === undefined) return undefined
    return (await idTokens.readHint(hint))?.sub ?? (prompt.includes('none') ? 'nobody' : undefined)
  }

  return { destination, read }
}

function readPrompt(text: string | undefined): Prompt[] {
  const names = text?.split(' ').filter((name) => name !== '') ?? []
  const known = names.filter((name): name is Prompt => prompts.some((one) => one === name))
  if (known.length !== names.length) throw wrongRequest(`The prompt must be of ${prompts.join(', ')}`)
  if (known.includes('none') && known.length > 1) throw wrongRequest('The prompt none must stand alone')
  return [...new Set(known)]
}

function readCodeChallenge(client: Client, challenge: string | undefined, method: string | undefined) {
  if (challenge === undefined) {
    if (method !== undefined) throw wrongRequest('The code_challenge is missing')
    if (!needsPkce(client)) return undefined
    throw new Refusal('invalid_request', {
      detail: 'The code_challenge is missing: the client has to use PKCE, with S256',
      checks: [checked('code_challenge', 'missing', 'S256'), checked('client', client.id)],
    })
  }
  // RFC 7636 §4.3: plain, where no method is named, and that one shows the verifier to whoever sees the request.
  if (method !== 'S256') throw wrongRequest('The code_challenge_method must be S256')
  if (!/^[A-Za-z0-9_-]{43}$/.test(challenge))
    throw wrongRequest('The code_challenge must be 43 characters of base64url')
  return challenge
}

function readMaxAge(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (!/^\d{1,9}$/.test(text)) throw wrongRequest('The max_age must be a number of seconds')
  return Number(text)
}

/** @throws {Refusal} where a level is essential that is unknown here, OpenID Connect Core §5.5.1.1 */
function readFactor(acrs: string | undefined, { acr }: ClaimsRequest): 'always' | 'if_possible' | undefined {
  if (acr?.isEssential && acr.values.length > 0) {
    const best = firstKnownAcr(acr.values)
    if (best === undefined) throw new Refusal('unmet_authentication_requirements')
    return best === twoFactors ? 'always' : undefined
  }
  return firstKnownAcr([...(acrs?.split(' ') ?? []), ...(acr?.values ?? [])]) === twoFactors ? 'if_possible' : undefined
}
