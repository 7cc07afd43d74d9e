/**
 * Every check that a request can fail, with the setting that decides it, where there is one. `docs/explain.md` says
 * what each looks at.
 */
const settings = {
  // How the request is written
  message: undefined,
  header_bytes: undefined,
  arrival_seconds: undefined,
  url: undefined,
  path: undefined,
  method: undefined,
  cors_origin: 'AUTH_CORS_ORIGINS',
  form_origin: 'AUTH_ISSUER',
  body_bytes: undefined,
  content_type: undefined,
  content_encoding: undefined,
  body: undefined,
  parameters: undefined,
  look_up: undefined,
  server_part: undefined,

  // Who asks, and for what
  client: undefined,
  client_metadata: 'AUTH_CIMD',
  grant_type: undefined,
  password_grant: 'AUTH_PASSWORD_GRANT',
  pages: 'AUTH_PAGES',
  client_grants: undefined,
  client_scopes: undefined,
  client_audience: undefined,
  redirect_uri: undefined,
  response_type: undefined,
  authorization_request: undefined,
  code_challenge: undefined,
  client_introspect: undefined,

  // What is presented
  bearer_token: undefined,
  access_token: undefined,
  access_token_seconds: 'AUTH_ACCESS_TTL',
  revocation: undefined,
  issuer: 'AUTH_ISSUER',
  audience: 'AUTH_AUDIENCE',
  scope: undefined,
  role: undefined,
  administrator: undefined,
  user_token: undefined,
  refresh_token: undefined,
  refresh_grace_seconds: 'AUTH_REFRESH_GRACE',
  mail_link: undefined,
  session: undefined,
  session_idle_seconds: 'AUTH_REFRESH_IDLE_TTL',
  session_seconds: 'AUTH_REFRESH_MAX_TTL',
  browser_session_idle_seconds: 'AUTH_BROWSER_IDLE_TTL',
  browser_session_seconds: 'AUTH_BROWSER_MAX_TTL',
  session_scope: undefined,

  // Accounts, and guesses at them
  account: undefined,
  password: undefined,
  failures_from_network: 'AUTH_THROTTLE',
  failures_from_anywhere: 'AUTH_THROTTLE',
  wait_seconds: 'AUTH_THROTTLE',
  network: 'AUTH_TRUSTED_PROXIES',
  mails_asked_for: 'AUTH_THROTTLE',
  signup: 'AUTH_SIGNUP',
  username: undefined,
  email: undefined,
  second_factor: undefined,
  factor_changes: 'AUTH_THROTTLE',
  mfa_policy: 'AUTH_MFA',
  sign_in_level: undefined,
  sign_in_seconds: undefined,
  auth_session: undefined,
  authorization_code: undefined,
  pushed_request: undefined,
  requests_pushed: undefined,
  device_code: undefined,
  devices_waiting: undefined,
  browser_session: 'AUTH_BROWSER_IDLE_TTL',
  consent: undefined,
  sign_ins_under_way: undefined,
  password_length: 'AUTH_PASSWORD_MIN',
  password_policy: undefined,
  client_id: undefined,
  own_access: undefined,
  signing_key: 'AUTH_SIGNING_KEY_FILE',

  // The service itself
  hash_wait_seconds: 'AUTH_HASH_MAX_WAIT',
  hashes_running: 'AUTH_HASH_CONCURRENCY',
  hashes_waiting: 'AUTH_HASH_MAX_WAIT',
  streams: undefined,
  streams_of_client: undefined,
  tokens_revoked: undefined,
  store: 'DATABASE_URL or AUTH_DATA_DIR',
  shutdown: 'AUTH_SHUTDOWN_GRACE',
  program: undefined,
} as const satisfies Record<string, string | undefined>

export const settingOfCheck: Readonly<Record<CheckName, string | undefined>> = settings
export type CheckName = keyof typeof settings

/** What a check found, for whoever has to say why a request was refused. Never a secret, nor a part of one. */
export interface Check {
  name: CheckName
  /** a number has the unit of the name */
  seen: string | number
  /** what it was held against */
  limit?: string | number
  /** that decides about the limit */
  setting?: string
}

/** Characters of a text that is kept: much of what is looked at is as long as a client likes. */
const longestText = 200
const short = <T extends string | number>(value: T) => (typeof value === 'string' ? value.slice(0, longestText) : value)

/**
 * @param seen what was found, never a secret
 * @param limit what it was held against, where there is such a thing
 */
export function checked(name: CheckName, seen: string | number, limit?: string | number): Check {
  const setting = settings[name]
  return {
    name,
    seen: short(seen),
    ...(limit !== undefined && { limit: short(limit) }),
    ...(setting !== undefined && { setting }),
  }
}

/**
 * Text that a client sent where a name is due, such as a scope. It may be a secret in the wrong place, so only what is
 * short and plain is repeated.
 */
export const shortWord = (text: string): string => (/^[\x21-\x7e]{1,32}$/.test(text) ? text : 'something else')
