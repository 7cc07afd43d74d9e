import { type TOptional, type TString, Type } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../../../config.ts'
import type { Caller } from '../../../domain/caller.ts'
import { type CheckName, checked, shortWord } from '../../../domain/checks.ts'
import { adminScope, type Client } from '../../../domain/client.ts'
import { audienceOf, parseScope } from '../../../domain/grant.ts'
import { isOpenIdScope } from '../../../domain/scope.ts'
import { missingParameter, Refusal } from '../../../errors.ts'
import type { TokenResponse } from '../../../schemas/oauth.ts'
import { Scope } from '../../../schemas/parts.ts'

/** A token request of a client that has been authenticated and may use the grant. */
interface TokenRequest<Parameter extends string> {
  caller: Caller
  client: Client
  form: { [name in Parameter]?: string | undefined }
}

/** A way to get tokens at `POST /token`, RFC 6749 §1.3. */
export interface Grant<Parameter extends string = string> {
  /** members of the form; an empty one counts as not sent, RFC 6749 §3.2 */
  parameters: Record<Parameter, TOptional<TString>>
  /** whether the settings allow it, and the check that it fails where they do not; left out where they always do */
  served?: { check: CheckName; when(config: Config): boolean }
  handle(app: FastifyInstance, asked: TokenRequest<Parameter>): Promise<TokenResponse>
}

/** Infers the names of the parameters. */
export const grant = <Parameter extends string>(definition: Grant<Parameter>): Grant<Parameter> => definition

/** Parameters of a grant that the client may narrow. The empty examples make /docs send none. */
export const narrowing = {
  scope: Type.Optional(Type.String({ description: Scope.description as string, examples: [''] })),
  resource: Type.Optional(
    Type.String({ description: 'RFC 8707: one of the audiences of the client; all by default', examples: [''] }),
  ),
}

/** @throws {Refusal} 400 `invalid_request` where the parameter is missing or empty */
export function required<Parameter extends string>(
  form: { [name in Parameter]?: string | undefined },
  name: Parameter,
): string {
  const value = form[name]
  if (!value) throw missingParameter(name)
  return value
}

/**
 * Reads the parameter `scope`.
 *
 * @returns its names; undefined where it is left out
 * @throws {Refusal} 400 `invalid_scope`
 */
export function readScope(scope: string | undefined): string[] | undefined {
  if (!scope) return undefined
  const names = parseScope(scope)
  if (names) return names
  throw new Refusal('invalid_scope', { detail: 'The scope is malformed', checks: [checked('scope', 'malformed')] })
}

/**
 * The scope of a new grant, RFC 6749 §3.3: what is asked for, or all scopes of the client. Where a user is behind the
 * grant, `admin` has to be asked for by name, and so may be those of OpenID Connect, which need not be the client's.
 *
 * @throws {Refusal} 400 `invalid_scope`
 */
export function grantScope(
  { id, type, scopes }: Client,
  scope: string | undefined,
  { ofUser, config }: { ofUser: boolean; config: Pick<Config, 'AUTH_PAGES'> },
): string[] {
  const names = readScope(scope)
  if (!names) return ofUser ? scopes.filter((name) => name !== adminScope) : scopes
  const isAnybodys = (name: string) => ofUser && config.AUTH_PAGES === 'on' && isOpenIdScope(name)
  const others = names.filter((name) => !scopes.includes(name) && !isAnybodys(name))
  if (others.length === 0) return names
  const asked = others.map(shortWord)
  throw new Refusal('invalid_scope', {
    detail: 'The client may not ask for this scope',
    reason: `${type} client`,
    checks: [checked('client_scopes', asked.join(' '), scopes.join(' ') || 'none'), checked('client', id)],
  })
}

/**
 * The `aud` of an access token, RFC 8707 §2: the `resource`, or all audiences of the client.
 *
 * @throws {Refusal} 400 `invalid_target`
 */
export function grantAudience(client: Client, resource: string | undefined, config: Config): string | string[] {
  const audience = audienceOf(client, config.AUTH_AUDIENCE)
  if (resource && !audience.includes(resource)) {
    const failed = checked('client_audience', 'another', audience.join(' '))
    throw new Refusal('invalid_target', { checks: [failed, checked('client', client.id)] })
  }
  return resource || (audience.length === 1 ? (audience[0] as string) : audience)
}
