import { distance } from 'fastest-levenshtein'

/*
 * Hints in a 404, for a route called by the name that it has in the tutorials of FastAPI and Flask or in other servers,
 * or misspelt. They consist of texts of this file and patterns of our own routes, and repeat nothing of the request.
 */

const logIn = 'log in with POST {}/token, a form with username and password'
const refresh = 'POST {}/refresh with the refresh token gives the next pair'
const signUp = 'sign up with POST {}/signup, JSON with username and password'
const profile = 'GET {}/users/me is the profile of the access token'
const logOut = 'POST {}/logout ends the session of the access token'
const docs = 'GET {}/docs shows all routes'
const health = 'GET {}/livez tells whether the process is alive, GET {}/readyz whether to send requests here'
const keys = 'GET {}/.well-known/jwks.json has the public keys'

/** Names that routes have elsewhere (in lower case and without `-` and `_`), after the hint that they lead to. */
const namesByHint: [hint: string, ...names: string[]][] = [
  [docs, '', 'index.html', 'docs.html', 'swagger', 'redoc', 'apidocs', 'api', 'help'],
  [logIn, 'login', 'signin', 'authenticate', 'auth', 'token', 'gettoken', 'accesstoken', 'session', 'sessions'],
  [refresh, 'refreshtoken', 'refresh', 'renew', 'reissue', 'tokenrefresh'],
  [signUp, 'register', 'signup', 'registration', 'join', 'users', 'user', 'accounts'],
  [profile, 'me', 'profile', 'userinfo', 'whoami', 'account'],
  [logOut, 'logout', 'signout', 'logoff'],
  [health, 'health', 'healthz', 'healthcheck', 'ping', 'status', 'ready', 'live', 'liveness', 'readiness'],
  [keys, 'jwks', 'jwks.json', 'certs', 'keys', 'publickey'],
  ['POST {}/introspect tells a confidential client of a token', 'introspection'],
  ['POST {}/revoke ends a token', 'revocation'],
  ['metrics are served on AUTH_METRICS_PORT, and only there', 'metrics'],
]
const hintByName = new Map(namesByHint.flatMap(([hint, ...names]) => names.map((name) => [name, hint] as const)))
/** The only parts that may precede a name: `/auth/token` is a login. */
const prefixes = /^(api|auth|oauth2?|account|accounts|users?|token|connect|v[0-9]|realms)$/
const longestPath = 64
/** Edits between a path and a route (Levenshtein) up to which the path is taken for a misspelling. */
const mostSlips = 2

/**
 * Names the route that a client probably meant.
 *
 * @param path of the request, without the query
 * @param patterns of all routes
 * @param publicPath that a proxy in front removes
 * @returns a detail for the 404; undefined where no route is near
 */
export function hintFor(path: string, patterns: Iterable<string>, publicPath: string): string | undefined {
  if (path.length > longestPath) return undefined
  const bare = path
    .toLowerCase()
    .replace(/\/+$/, '')
    .replace(/\/{2,}/g, '/')
  const literal = [...patterns].filter((pattern) => !/[:*]/.test(pattern) && !pattern.endsWith('/'))
  const prefix = publicPath.toLowerCase()
  if (prefix !== '' && (bare === prefix || literal.some((pattern) => bare === prefix + pattern)))
    return `Not found: the proxy in front has to take ${publicPath}, the path of the issuer, away`
  const same = literal.find((pattern) => pattern === bare)
  if (same !== undefined)
    return `Not found, the route is at ${publicPath}${same}: without a slash at the end, and in lower case`
  const parts = bare.slice(1).split('/')
  const name = parts.pop()?.replace(/[-_]/g, '') ?? ''
  const advice = parts.every((part) => prefixes.test(part)) ? hintByName.get(name) : undefined
  if (advice !== undefined) return `Not found: ${advice.replaceAll('{}', publicPath)}`
  const [nearest] = literal
    .map((pattern) => ({ pattern, slips: distance(pattern, bare) }))
    .sort((a, b) => a.slips - b.slips)
  if (nearest && nearest.slips <= mostSlips && bare.length > 2 * mostSlips)
    return `Not found, the nearest route is at ${publicPath}${nearest.pattern}`
  return undefined
}
