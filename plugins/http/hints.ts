import { distance } from 'fastest-levenshtein'

/*
 * What a 404 says to people who call a route by the name that it has elsewhere: in the tutorials of FastAPI and Flask, in other
 * servers, or with a slip. Only texts of this file and patterns of our own routes are in it, and nothing of the request.
 */

const logIn = 'log in with POST {}/token, a form with username and password'
const refresh = 'POST {}/refresh with the refresh token gives the next pair'
const signUp = 'sign up with POST {}/signup, JSON with username and password'
const profile = 'GET {}/users/me is the profile of the access token'
const logOut = 'POST {}/logout ends the session of the access token'
const docs = 'GET {}/docs shows all routes'
const health = 'GET {}/livez tells whether the process is alive, GET {}/readyz whether to send requests here'
const keys = 'GET {}/.well-known/jwks.json has the public keys'

/** The last part of a path, in lower case and without `-` and `_`, and what is right instead. */
const known = new Map<string, string>([
  ...['', 'index.html', 'docs.html', 'swagger', 'redoc', 'apidocs', 'api', 'help'].map((name) => [name, docs] as const),
  ...['login', 'signin', 'authenticate', 'auth', 'token', 'gettoken', 'accesstoken', 'session', 'sessions'].map(
    (name) => [name, logIn] as const,
  ),
  ...['refreshtoken', 'refresh', 'renew', 'reissue', 'tokenrefresh'].map((name) => [name, refresh] as const),
  ...['register', 'signup', 'registration', 'join', 'users', 'user', 'accounts'].map((name) => [name, signUp] as const),
  ...['me', 'profile', 'userinfo', 'whoami', 'account'].map((name) => [name, profile] as const),
  ...['logout', 'signout', 'logoff'].map((name) => [name, logOut] as const),
  ...['health', 'healthz', 'healthcheck', 'ping', 'status', 'ready', 'live', 'liveness', 'readiness'].map(
    (name) => [name, health] as const,
  ),
  ...['jwks', 'jwks.json', 'certs', 'keys', 'publickey'].map((name) => [name, keys] as const),
  ['introspection', 'POST {}/introspect tells a confidential client of a token'],
  ['revocation', 'POST {}/revoke ends a token'],
  ['metrics', 'metrics are served on AUTH_METRICS_PORT, and only there'],
])
/** `/token/refresh` is no login, whatever its first part says, and `/auth/token` is one: only these stand before a name. */
const prefixes = /^(api|auth|oauth2?|account|accounts|users?|token|connect|v[0-9]|realms)$/
const longestPath = 64
/** More slips than this make another word. */
const mostSlips = 2

/**
 * Says what is right in the place of a path that there is not.
 *
 * @param path of the request, without the query
 * @param patterns of the routes there are
 * @param publicPath what a proxy in front takes away
 * @returns words for the client; undefined where nothing is near
 */
export function hintFor(path: string, patterns: Iterable<string>, publicPath: string): string | undefined {
  if (path.length > longestPath) return undefined
  const bare = path
    .toLowerCase()
    .replace(/\/+$/, '')
    .replace(/\/{2,}/g, '/')
  const literal = [...patterns].filter((pattern) => !/[:*]/.test(pattern) && !pattern.endsWith('/'))
  const same = literal.find((pattern) => pattern === bare)
  if (same !== undefined)
    return `Not found, the route is at ${publicPath}${same}: without a slash at the end, and in lower case`
  const parts = bare.slice(1).split('/')
  const name = parts.pop()?.replace(/[-_]/g, '') ?? ''
  const advice = parts.every((part) => prefixes.test(part)) ? known.get(name) : undefined
  if (advice !== undefined) return `Not found: ${advice.replaceAll('{}', publicPath)}`
  const [nearest] = literal
    .map((pattern) => ({ pattern, slips: distance(pattern, bare) }))
    .sort((a, b) => a.slips - b.slips)
  if (nearest && nearest.slips <= mostSlips && bare.length > 2 * mostSlips)
    return `Not found, the nearest route is at ${publicPath}${nearest.pattern}`
  return undefined
}
