import type { FastifyInstance } from 'fastify'
import { acrValues } from '../../domain/authentication.ts'
import { openIdScopes } from '../../domain/scope.ts'
import { locales } from '../../domain/user.ts'
import { claimsOf } from '../../domain/user-claims.ts'
import { prompts } from '../../plugins/authorization/pending.ts'
import { servedGrants } from './grants/index.ts'

const clientAuthentication = ['client_secret_basic', 'client_secret_post']
const publicToo = ['none', ...clientAuthentication]
/** Of every ID token; those of the user are asked for by scope. */
const idTokenClaims = ['iss', 'aud', 'sub', 'iat', 'exp', 'auth_time', 'acr', 'amr', 'sid', 'nonce', 'at_hash']

/**
 * What this service says of itself to clients: RFC 8414 §2, and the same for OpenID Connect (Discovery §3). Only what
 * works, and nothing that would be empty.
 */
export function serverMetadata({ config, signingKeys }: Pick<FastifyInstance, 'config' | 'signingKeys'>) {
  const issuer = config.AUTH_ISSUER
  const at = (path: string) => issuer.replace(/\/$/, '') + path
  return {
    issuer,
    token_endpoint: at('/token'),
    jwks_uri: at('/.well-known/jwks.json'),
    authorization_challenge_endpoint: at('/challenge'),
    code_challenge_methods_supported: ['S256'],
    acr_values_supported: acrValues,
    grant_types_supported: servedGrants(config),
    token_endpoint_auth_methods_supported: publicToo,
    revocation_endpoint: at('/revoke'),
    revocation_endpoint_auth_methods_supported: publicToo,
    introspection_endpoint: at('/introspect'),
    introspection_endpoint_auth_methods_supported: clientAuthentication,
    service_documentation: at('/docs'),
    ...(config.AUTH_PAGES === 'on' && signInInTheBrowser()),
  }

  function signInInTheBrowser() {
    return {
      authorization_endpoint: at('/authorize'),
      pushed_authorization_request_endpoint: at('/par'),
      device_authorization_endpoint: at('/device_authorization'),
      userinfo_endpoint: at('/userinfo'),
      end_session_endpoint: at('/sign-out'),
      backchannel_logout_supported: true,
      backchannel_logout_session_supported: true,
      ...(config.AUTH_CIMD !== false && { client_id_metadata_document_supported: true }),
      response_types_supported: ['code'],
      response_modes_supported: ['query', 'form_post'],
      authorization_response_iss_parameter_supported: true,
      prompt_values_supported: prompts,
      ui_locales_supported: locales,
      scopes_supported: openIdScopes,
      subject_types_supported: ['public'],
      // RS256 first, as it is what clients get that have not chosen.
      id_token_signing_alg_values_supported: [...new Set(['RS256', ...signingKeys.algs])],
      claim_types_supported: ['normal'],
      claims_supported: [...idTokenClaims, ...claimsOf(openIdScopes)],
      claims_parameter_supported: true,
      request_parameter_supported: false,
      // Its default is true (Discovery §3).
      request_uri_parameter_supported: false,
    }
  }
}
