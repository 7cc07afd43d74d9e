import type { TOptional, TString } from '@fastify/type-provider-typebox'
import type { Config } from '../../../config.ts'
import { checked } from '../../../domain/checks.ts'
import { type Client, grantsOf } from '../../../domain/client.ts'
import { deviceGrant, type GrantType, grantTypes } from '../../../domain/grant.ts'
import { Refusal } from '../../../errors.ts'
import { authorizationCode } from './authorization-code.ts'
import { clientCredentials } from './client-credentials.ts'
import { deviceCode } from './device-code.ts'
import type { Grant } from './grant.ts'
import { password } from './password.ts'
import { refreshToken } from './refresh-token.ts'

/** Every grant. A new one is a file of this folder, a line here, and its name in `domain/grant.ts`. */
export const grants: Record<GrantType, Grant> = {
  password,
  refresh_token: refreshToken,
  authorization_code: authorizationCode,
  client_credentials: clientCredentials,
  [deviceGrant]: deviceCode,
}

/** The parameters of all grants, for one form: each grant ignores those of the others, RFC 6749 §3.2. */
export const grantParameters: Record<string, TOptional<TString>> = Object.assign(
  {},
  ...Object.values(grants).map(({ parameters }) => parameters),
)

/** The grants that these settings allow. */
export const servedGrants = (config: Config): GrantType[] =>
  grantTypes.filter((type) => grants[type].served?.when(config) ?? true)

/** @throws {Refusal} 400 `unauthorized_client` where the client may not use the grant */
export function checkGrant(client: Client, type: GrantType): void {
  const given = grantsOf(client)
  if (given.includes(type)) return
  const checks = [checked('client_grants', type, given.join(', ') || 'none'), checked('client', client.id)]
  throw new Refusal('unauthorized_client', { checks })
}
