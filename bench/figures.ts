/* The figures of a run, each beside its ceilings: what bounds it, measured on the same machine in the same rounds. */
import type { SigningAlg } from '../domain/signing-key.ts'
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
  const bareRoutes: BareRoute[] = []
  let bareOrigin = ''

  function loadCase(title: string, load: Load, service: Service, onAnswer = (_bytes: number) => {}): Case {
    return {
      title,
      async run(seconds) {
        const measured = await generate(title, service, load, seconds)
        onAnswer(measured.answerBytes)
        return measured
      },
    }
  }
  /** A figure, and the same requests to a bare route with an answer as large. */
  function withBare(title: string, load: Load): { figure: Case; bare: Case } {
    const route: BareRoute = { method: load.method, path: `/${bareRoutes.length}`, bytes: 0 }
    bareRoutes.push(route)
    const bareTitle = load.method === 'GET' ? 'bare GET' : 'bare form POST'
    const { next: _, ...same } = { ...load, path: route.path }
    const figure = loadCase(title, load, services.main, (bytes) => {
      route.bytes = bytes
    })
    const run = (seconds: number) => {
      const expected = route.bytes === 0 ? 204 : 200
      return generate(bareTitle, { origin: bareOrigin, pid: parts.pid }, { ...same, expected }, seconds)
    }
    return { figure, bare: { title: bareTitle, run } }
  }
  const part = (title: string, name: string, span: object): Case => ({
    title,
    run: (seconds) => parts.call(name, { concurrency: options.connections, ...span, seconds }),
  })

  const rows = createRows(options, services, loadCase, withBare, part)
  const wanted = figureNames.filter((name) => !options.only || options.only.includes(name))
  /** Ceilings are those of this machine. */
  const hasCeilings = options.url === undefined || isLocal(options.url)
  const figures = wanted.flatMap((name): Figure[] => {
    const [figure, ...ceilings] = rows[name]()
    if (!figure) return []
    const isCall = name.startsWith('latchkey-verify')
    return [{ ...figure, name, ceilings: hasCeilings || isCall ? ceilings.filter((one) => one !== undefined) : [] }]
  })
  return {
    figures,
    async listen() {
      if (hasCeilings) bareOrigin = await parts.call('listen', bareRoutes)
    },
  }
}

/** A figure and its ceilings; nothing where it cannot be measured, and undefined for a ceiling that cannot. */
type Row = (Case | undefined)[]

function createRows(
  { connections, url }: BenchOptions,
  { main, embedded, client, hashConcurrency, argon2, algorithm, dir, databaseUrl, issuer, audience }: Services,
  loadCase: (title: string, load: Load, service: Service) => Case,
  withBare: (title: string, load: Load) => { figure: Case; bare: Case },
  part: (title: string, name: string, span: object) => Case,
): Record<FigureName, () => Row> {
  const hashSpan = argon2 && {
    memoryCost: argon2.memory,
    timeCost: argon2.passes,
    parallelism: argon2.lanes,
    concurrency: hashConcurrency,
  }
  const tokens = main.sessions.map(({ access_token }) => access_token)
  const follower = client && { clientId: client.id, clientSecret: client.secret }
  const verifySpan = { tokens, issuer, audience, origin: main.origin, ...follower }
  // The same part under two figures is measured once a round.
  const signature = part(`bare ${algorithm} signature`, 'sign', { alg: algorithm as SigningAlg })
  const jose = part('bare jose.jwtVerify', 'verifyJose', verifySpan)
  const storeWrite = databaseUrl
    ? part('bare UPDATE in PostgreSQL', 'updatePostgres', { databaseUrl })
    : part('bare put in LMDB, synced', 'putLmdb', { dir })
  const logins = Math.min(connections, loginsPerHash * hashConcurrency)
  const basic = client && { authorization: `Basic ${Buffer.from(`${client.id}:${client.secret}`).toString('base64')}` }
  const basicLoad = (path: string, bodies: string[]) => formLoad(path, bodies, basic)

  const beside = (title: string, load: Load, ...others: Row): Row => {
    const { figure, bare } = withBare(title, load)
    return [figure, bare, ...others]
  }
  const verifying = (title: string, cacheSize: number): Row => [
    part(title, 'verifyLatchkey', { ...verifySpan, cacheSize }),
    jose,
  ]
  return {
    logins: () => [
      loadCase('logins', loginLoad(main.users.slice(0, logins), main.password), main),
      hashSpan && part('bare argon2.verify', 'verifyHash', hashSpan),
    ],
    // In a running service the new users would stay.
    signups: () =>
      url === undefined
        ? [loadCase('signups', signupLoad(logins), main), hashSpan && part('bare argon2.hash', 'makeHash', hashSpan)]
        : [],
    refreshes: () =>
      beside(
        'refreshes',
        refreshLoad(main.sessions),
        url === undefined ? storeWrite : undefined,
        signature,
        embedded && loadCase('refreshes on LMDB', refreshLoad(embedded.sessions), embedded),
      ),
    'client-credentials': () => {
      const bodies = Array<string>(connections).fill('grant_type=client_credentials')
      return basic ? beside('client credentials', basicLoad('/token', bodies), signature) : []
    },
    introspections: () => {
      const bodies = tokens.map((token) => `token=${token}`)
      return basic ? beside('introspections', basicLoad('/introspect', bodies)) : []
    },
    protected: () => beside('GET /protected', bearerLoad('/protected', main.sessions)),
    verify: () => beside('GET /verify', bearerLoad('/verify', main.sessions, 204)),
    'latchkey-verify': () => verifying('latchkey/verify, seen before', remembersAll),
    'latchkey-verify-new': () => (connections > 1 ? verifying('latchkey/verify, first sight', remembersOne) : []),
  }
}
