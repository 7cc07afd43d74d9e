/* The figures of a run, each beside its ceilings: what bounds it, measured on the same machine in the same rounds. */
import type { SigningAlg } from '../plugins/keys/signing-keys.ts'
import type { BareRoute } from './ceilings.ts'
import { bearerLoad, createLoader, formLoad, type Load, loginLoad, refreshLoad, signupLoad } from './load.ts'
import { type BenchOptions, type FigureName, figureNames } from './options.ts'
import { startRemote } from './processes.ts'
import type { Case } from './rounds.ts'
import type { Service } from './service.ts'
import type { Services } from './services.ts'

export interface Figure extends Case {
  name: FigureName
  /** the first is the one that counts */
  ceilings: Case[]
}

export interface Figures {
  /** those that were asked for and can be measured */
  figures: Figure[]
  /** Starts the bare routes, whose answers are as large as those that the figures got so far. */
  listen(): Promise<void>
}

/** Logins under way for each hash that is computed, so that no hash waits for a request. */
const loginsPerHash = 4
/** Tokens that a verifier remembers; two in turn are new each time to one that remembers a single token. */
const [remembersAll, remembersOne] = [5_000, 1]
const isLocal = (url: string) => /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(new URL(url).hostname)

/** @param notes takes what the reader of the figures should know */
export function createFigures(options: BenchOptions, services: Services, notes: string[]): Figures {
  const generate = createLoader((note) => notes.push(note))
  const threads = { UV_THREADPOOL_SIZE: String(services.hashConcurrency + 4) }
  const parts = startRemote('./ceilings.js', threads, ['--max-semi-space-size=4'])
  /** Ceilings are those of this machine. */
  const hasCeilings = options.url === undefined || isLocal(options.url)
  const bareRoutes: BareRoute[] = []
  let bareOrigin = ''

  /** A load on a service, and the same requests to a bare route with an answer as large. */
  function loadCases(title: string, load: Load, service: Service): { figure: Case; bare: Case } {
    const path = `/${bareRoutes.length}`
    const route: BareRoute = { method: load.method, path, bytes: 0 }
    bareRoutes.push(route)
    const bareTitle = load.method === 'GET' ? 'bare GET' : 'bare form POST'
    const { next: _, ...same } = load
    return {
      figure: {
        title,
        async run(seconds) {
          const measured = await generate(title, service, load, seconds)
          route.bytes = measured.answerBytes
          return measured
        },
      },
      bare: {
        title: bareTitle,
        async run(seconds) {
          const bareLoad = { ...same, path, expected: route.bytes === 0 ? 204 : 200 }
          return generate(bareTitle, { origin: bareOrigin, pid: parts.pid }, bareLoad, seconds)
        },
      },
    }
  }
  const part = (title: string, name: string, span: object): Case => ({
    title,
    run: (seconds) => parts.call(name, { concurrency: options.connections, ...span, seconds }),
  })

  const rows = createRows(options, services, loadCases, part)
  const wanted = figureNames.filter((name) => !options.only || options.only.includes(name))
  const figures = wanted.flatMap((name): Figure[] => {
    const row = rows[name]()
    if (!row) return []
    const ceilings = hasCeilings || !row.isHttp ? row.ceilings.filter((ceiling) => ceiling !== undefined) : []
    return [{ ...row.figure, name, ceilings }]
  })
  return {
    figures,
    async listen() {
      if (hasCeilings) bareOrigin = await parts.call('listen', bareRoutes)
    },
  }
}

interface Row {
  figure: Case
  ceilings: (Case | undefined)[]
  isHttp: boolean
}

/** @returns a row for each figure; undefined where it cannot be measured */
function createRows(
  { connections, url }: BenchOptions,
  { main, embedded, client, hashConcurrency, argon2, algorithm, dir, databaseUrl, issuer, audience }: Services,
  loadCases: (title: string, load: Load, service: Service) => { figure: Case; bare: Case },
  part: (title: string, name: string, span: object) => Case,
): Record<FigureName, () => Row | undefined> {
  const hashSpan = argon2 && {
    memoryCost: argon2.memory,
    timeCost: argon2.passes,
    parallelism: argon2.lanes,
    concurrency: hashConcurrency,
  }
  const tokens = main.sessions.map(({ access_token }) => access_token)
  const origin = main.origin
  const follower = client && { clientId: client.id, clientSecret: client.secret }
  const verifySpan = { tokens, issuer, audience, origin, ...follower }
  // The same part under two figures is measured once a round.
  const signature = part(`bare ${algorithm} signature`, 'sign', { alg: algorithm as SigningAlg })
  const jose = part('bare jose.jwtVerify', 'verifyJose', verifySpan)
  const storeWrite = databaseUrl
    ? part('bare UPDATE in PostgreSQL', 'updatePostgres', { databaseUrl })
    : part('bare put in LMDB, synced', 'putLmdb', { dir })

  const logins = Math.min(connections, loginsPerHash * hashConcurrency)
  const basic = client && { authorization: `Basic ${Buffer.from(`${client.id}:${client.secret}`).toString('base64')}` }

  const plain = (title: string, load: Load, ...ceilings: (Case | undefined)[]): Row => ({
    figure: loadCases(title, load, main).figure,
    ceilings,
    isHttp: true,
  })
  const besideBare = (title: string, load: Load, ...others: (Case | undefined)[]): Row => {
    const { figure, bare } = loadCases(title, load, main)
    return { figure, ceilings: [bare, ...others], isHttp: true }
  }
  const verifying = (title: string, cacheSize: number): Row => ({
    figure: part(title, 'verifyLatchkey', { ...verifySpan, cacheSize }),
    ceilings: [jose],
    isHttp: false,
  })

  return {
    logins: () =>
      plain(
        'logins',
        loginLoad(main.users.slice(0, logins), main.password),
        hashSpan && part('bare argon2.verify', 'verifyHash', hashSpan),
      ),
    // In a running service the new users would stay.
    signups: () =>
      url === undefined
        ? plain('signups', signupLoad(logins), hashSpan && part('bare argon2.hash', 'makeHash', hashSpan))
        : undefined,
    refreshes: () =>
      besideBare(
        'refreshes',
        refreshLoad(main.sessions),
        url === undefined ? storeWrite : undefined,
        signature,
        embedded && loadCases('refreshes on LMDB', refreshLoad(embedded.sessions), embedded).figure,
      ),
    'client-credentials': () =>
      basic &&
      besideBare(
        'client credentials',
        formLoad('/token', Array(connections).fill('grant_type=client_credentials'), basic),
        signature,
      ),
    introspections: () =>
      basic &&
      besideBare(
        'introspections',
        formLoad(
          '/introspect',
          tokens.map((token) => `token=${token}`),
          basic,
        ),
      ),
    protected: () => besideBare('GET /protected', bearerLoad('/protected', main.sessions)),
    verify: () => besideBare('GET /verify', bearerLoad('/verify', main.sessions, 204)),
    'latchkey-verify': () => verifying('latchkey/verify, seen before', remembersAll),
    'latchkey-verify-new': () =>
      connections > 1 ? verifying('latchkey/verify, first sight', remembersOne) : undefined,
  }
}
