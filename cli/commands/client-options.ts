import type { Json } from '../admin.ts'
import type { OptionDetails, Options } from '../command.ts'

const repeatable = (about: string): OptionDetails => ({ about: `${about}; repeatable`, isRepeatable: true })

/** What can be decided of a client when it is made, and changed later. */
export const memberOptions: Record<string, string | OptionDetails> = {
  '--grant <grant>': repeatable(
    'password, refresh_token, authorization_code, client_credentials (default if confidential) or device_code by its whole name',
  ),
  '--scope <scope>': repeatable('a scope it may request'),
  '--audience <url>': repeatable('audience of its tokens, AUTH_AUDIENCE by default'),
  '--name <name>': 'what people know it by, on the pages',
  '--redirect-uri <url>': repeatable(
    'where a browser is sent back to, compared as text; by default with the grants authorization_code and refresh_token',
  ),
  '--post-logout-redirect-uri <url>': repeatable('where a browser may be sent after signing out'),
  '--backchannel-logout-uri <url>': 'told when a session of its ends with that of the browser',
  '--pkce <when>': 'required (default) or optional, for a confidential client that knows no PKCE',
  '--consent <how>': 'ask (default), or implicit for an app of your own',
  '--id-token-alg <alg>': 'RS256 (default), ES256 or EdDSA',
}

/** The members that these options give; undefined for those that are not given. */
export const membersFrom = (options: Options): Json => ({
  grants: options['grant'],
  scopes: options['scope'],
  audience: options['audience'],
  name: options['name'],
  redirect_uris: options['redirectUri'],
  post_logout_redirect_uris: options['postLogoutRedirectUri'],
  backchannel_logout_uri: options['backchannelLogoutUri'],
  pkce: options['pkce'],
  consent: options['consent'],
  id_token_alg: options['idTokenAlg'],
})
