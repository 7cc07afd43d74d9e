import { isIP } from 'node:net'
import { unknownNames } from '../../config/names.ts'
import { Settings } from '../../config.ts'
import { type Check, count, failed, ok, skipped, warning } from './check.ts'
import type { Facts } from './facts.ts'
import { isLoopback, isMetrics } from './http.ts'

const names = Object.keys(Settings.properties)
/** What a message begins with. */
const nameIn = (message: string) => /^[A-Z_]+/.exec(message)?.[0] ?? 'settings'

const isOwnAddress = (host: string) => host === 'localhost' || host === '::1' || /^127\./.test(host)

/** The settings by themselves, before anything is opened or asked. */
export const settings: Check<Facts>[] = [
  {
    id: 'settings',
    find({ examined: { config, problems }, env }) {
      if (!config)
        return problems.map((problem) =>
          failed(problem, nameIn(problem), 'mend it: the service does not start with it'),
        )
      const own = config.warnings.filter((text) => !/ is no setting of /.test(text))
      if (own.length > 0) return own.map((text) => warning(text, nameIn(text), 'mend it'))
      return ok(`${count(names.filter((name) => env[name]).length, 'setting')} given, of ${names.length}`)
    },
  },
  {
    id: 'settings.unknown',
    find({ env }) {
      const lines = unknownNames(env, names)
      if (lines.length === 0) return ok('no AUTH_* that nothing reads')
      return lines.map((line) => {
        const [seen = '', advice = ''] = line.split('; ')
        return warning(seen, nameIn(line), advice)
      })
    },
  },
  {
    id: 'insecure',
    find: ({ config }) =>
      config().AUTH_INSECURE
        ? warning('argon2 below the OWASP minimum is allowed', 'AUTH_INSECURE', 'remove it: it is for tests')
        : ok('AUTH_INSECURE is not set'),
  },
  {
    id: 'throttle',
    find: ({ config }) =>
      config().AUTH_THROTTLE === 'off'
        ? warning('passwords may be guessed without a wait', 'AUTH_THROTTLE', 'set it to on: off is for a load test')
        : ok('who guesses at passwords has to wait'),
  },
  {
    id: 'signup',
    find: ({ config }) =>
      config().AUTH_SIGNUP === 'open'
        ? ok('anybody who reaches it may make an account', 'AUTH_SIGNUP=closed leaves that to administrators')
        : ok('only administrators make accounts'),
  },
  {
    id: 'listening',
    find({ config }) {
      const { HOST, AUTH_TRUSTED_PROXIES: proxies, AUTH_ISSUER: issuer } = config()
      if (isOwnAddress(HOST)) return ok(`on ${HOST}, for this machine only`)
      if (proxies) return ok(`on ${HOST}, behind ${proxies.join(', ')}`)
      // What is no address is looked up at start.
      const where = isIP(HOST) && !/^(0\.0\.0\.0|::)$/.test(HOST) ? HOST : `${HOST}, for other machines too`
      if (isLoopback(issuer)) return ok(`on ${where}, as AUTH_ISSUER ${issuer} says, nobody else uses it`)
      return warning(
        `on ${where}, in plain HTTP, and no proxy is named`,
        'AUTH_TRUSTED_PROXIES',
        'put a proxy with TLS in front, and set it to the address of that',
      )
    },
  },
  {
    id: 'metrics',
    async find({ config, metrics }) {
      const { AUTH_METRICS_PORT: port, AUTH_ISSUER: issuer, HOST } = config()
      if (port === undefined) return skipped('AUTH_METRICS_PORT is not set')
      if (isOwnAddress(HOST)) return ok(`on port ${port} of ${HOST}, for this machine only`)
      const answer = isLoopback(issuer) ? undefined : await metrics().catch(() => undefined)
      if (!answer || !isMetrics(answer)) return ok(`on port ${port}, not at the host of AUTH_ISSUER`)
      return warning(
        `anybody may read them at ${new URL(issuer).hostname}:${port}`,
        'AUTH_METRICS_PORT',
        'let the firewall or the proxy keep that port to Prometheus',
      )
    },
  },
  {
    id: 'proxies',
    find({ config }) {
      const { AUTH_TRUSTED_PROXIES: proxies, AUTH_ISSUER: issuer } = config()
      if (proxies) return ok(`X-Forwarded-For is believed from ${proxies.join(', ')}`)
      if (!issuer.startsWith('https:')) return ok('none is trusted, and AUTH_ISSUER has no TLS that one would add')
      return warning(
        'AUTH_ISSUER is https, so there is a proxy, and it is not trusted: everybody has its address',
        'AUTH_TRUSTED_PROXIES',
        'set it to the address of the proxy, or one guesser locks out all',
      )
    },
  },
  {
    id: 'keep_alive',
    async find({ config, issuer }) {
      const { AUTH_KEEP_ALIVE: keepAlive } = config()
      const answer = await issuer().catch(() => undefined)
      const by = `${answer?.headers.get('via') ?? ''} ${answer?.headers.get('server') ?? ''}`
      const [, proxy, seconds] = idleTimes.find(([sign]) => sign.test(by)) ?? [/./, 'most proxies', usualIdleSeconds]
      if (keepAlive.seconds > Number(seconds))
        return ok(
          `${keepAlive.seconds} s, longer than ${proxy} keep${proxy === 'most proxies' ? '' : 's'} a connection`,
        )
      if (isLoopback(config().AUTH_ISSUER) && !config().AUTH_TRUSTED_PROXIES)
        return skipped('there is no proxy, by AUTH_ISSUER')
      return warning(
        `${keepAlive.seconds} s, while ${proxy} may keep an idle connection for ${seconds} s: some POST will get 502`,
        'AUTH_KEEP_ALIVE',
        `set it to ${Number(seconds) + 20}s`,
      )
    },
  },
]

/** For how long proxies keep idle connections to us by default, by what they write into answers; in seconds. */
const idleTimes: [sign: RegExp, proxy: string, seconds: number][] = [
  [/google/i, 'the Google load balancer', 600],
  [/envoy/i, 'Envoy', 3600],
  [/caddy/i, 'Caddy', 120],
  [/awselb/i, 'the AWS load balancer', 60],
  [/nginx|openresty/i, 'nginx', 60],
]
const usualIdleSeconds = 90
