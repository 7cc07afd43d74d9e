/*
 * What `latchkey bench` does: starts the service on a temporary store, and measures it in rounds, each figure beside its ceilings,
 * so that a disturbance of the machine meets all alike. What is reported are medians of the rounds.
 */
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os'
import type { SigningAlg } from '../plugins/keys/signing-keys.ts'
import { argon2Build } from '../plugins/login/argon2.ts'
import type { BareRoute, HashSpan, StoreSpan, VerifySpan } from './ceilings.ts'
import { asForm, bearer, form } from './client.ts'
import type { Load, LoadResult } from './generator.ts'
import { cpuSeconds, type Measured, peakResidentMB } from './meter.ts'
import { median } from './processes.ts'
import { type Remote, startRemote } from './remote.ts'
import { type Service, startServices } from './service.ts'

export const figureNames = [
  'logins',
  'signups',
  'refreshes',
  'client-credentials',
  'introspections',
  'protected',
  'verify',
  'latchkey-verify',
  'latchkey-verify-new',
] as const
export type FigureName = (typeof figureNames)[number]

export interface BenchOptions {
  /** for each figure, in all rounds together */
  seconds: number
  rounds: number
  connections: number
  /** undefined for all */
  only?: FigureName[]
  workers?: string
  /** PostgreSQL, in a schema of its own that goes at the end; LMDB when not given */
  databaseUrl?: string
  /** a service that runs */
  url?: string
}

export interface Line extends Measured {
  title: string
  /** of each round */
  rounds: Measured[]
}
export interface CeilingLine extends Line {
  /** what the figure reached of it: the median of the rounds */
  ratio: number
  /** the same by the processor time of each, which other work on the machine disturbs less */
  ratioByCpu?: number
}
export interface FigureLine extends Line {
  name: FigureName
  /** the first is the one that counts */
  ceilings: CeilingLine[]
}

export interface BenchResult {
  at: string
  seconds: number
  machine: { processor: string; cores: number; memoryGB: number; platform: string; node: string; loadBefore: number }
  settings: {
    store: string
    /** unknown of a service that somebody else started */
    workers: string
    argon2: { memory: number; passes: number; lanes: number; atOnce: number; build: string } | undefined
    algorithm: string
    connections: number
    secondsEach: number
    rounds: number
  }
  service: { readyMs?: number; idleMB?: number; peakMB?: number }
  figures: FigureLine[]
  notes: string[]
}

interface Ceiling {
  title: string
  /** @returns undefined where it cannot be measured */
  run: (seconds: number) => Promise<Measured | undefined>
}
interface Figure extends Ceiling {
  name: FigureName
  ceilings: Ceiling[]
}

const warmUpSeconds = 0.5
/** Logins that wait for each core, so that no hash waits for a request. */
const loginsPerCore = 4
/** Of one core; beyond it the generator is what was measured. */
const generatorLimit = 0.95
const isLocal = (url: string) => /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(new URL(url).hostname)

/** @param onProgress is told what is being done */
export async function runBench(options: BenchOptions, onProgress: (line: string) => void): Promise<BenchResult> {
  const startedAt = performance.now()
  const loadBefore = loadavg()[0] as number
  onProgress('starting …')
  const generator = startRemote('./generator.js')
  const services = await startServices(options)
  const parts = startRemote('./ceilings.js', { UV_THREADPOOL_SIZE: String(services.hashesAtOnce + 4) }, [
    '--max-semi-space-size=4',
  ])

  const notes: string[] = [...services.notes]
  const { figures, listen } = figuresOf(options, services, { generator, parts }, notes)
  const wanted = figures.filter(({ name }) => !options.only || options.only.includes(name))
  const secondsEach = options.seconds / options.rounds
  const series = new Map<Ceiling, Measured[]>()
  const failures = new Map<Ceiling, number>()
  const steps = (1 + options.rounds) * new Set(wanted.flatMap((figure) => [figure, ...figure.ceilings])).size
  let step = 0

  for (let round = 0; round <= options.rounds; round++) {
    const seen = new Set<Ceiling>()
    const measure = async (ceiling: Ceiling) => {
      if (seen.has(ceiling)) return
      seen.add(ceiling)
      step += 1
      onProgress(
        `${round === 0 ? 'warming up' : `round ${round} of ${options.rounds}`}: ${ceiling.title} (${step} of ${steps})`,
      )
      const measured = await ceiling.run(round === 0 ? Math.min(secondsEach, warmUpSeconds) : secondsEach)
      if (!measured) return
      failures.set(ceiling, (failures.get(ceiling) ?? 0) + measured.errors)
      if (round > 0) series.set(ceiling, [...(series.get(ceiling) ?? []), measured])
    }
    if (round === 0) {
      // The bare routes answer as much as the service did.
      for (const figure of wanted) await measure(figure)
      await listen()
    }
    for (const figure of wanted) for (const one of [figure, ...figure.ceilings]) await measure(one)
  }

  const peakMB = services.main.pid === undefined ? undefined : peakResidentMB(services.main.pid)
  await services.leave()
  const lineOf = (ceiling: Ceiling): Line | undefined => {
    const rounds = series.get(ceiling)
    return rounds && { title: ceiling.title, ...medianOf(rounds), errors: failures.get(ceiling) ?? 0, rounds }
  }
  const lines = wanted.flatMap((figure): FigureLine[] => {
    const line = lineOf(figure)
    if (!line) return []
    const ceilings = figure.ceilings.flatMap((ceiling): CeilingLine[] => {
      const one = lineOf(ceiling)
      if (!one) return []
      const ratio = median(line.rounds.map((round, n) => round.perSecond / (one.rounds[n]?.perSecond ?? 0)))
      return [{ ...one, ratio, ...(one.cpuUs !== undefined && line.cpuUs && { ratioByCpu: one.cpuUs / line.cpuUs }) }]
    })
    return [{ name: figure.name, ...line, ceilings }]
  })
  const { argon2, algorithm, store, readyMs, idleMB } = services
  return {
    at: new Date().toISOString(),
    seconds: (performance.now() - startedAt) / 1000,
    machine: {
      processor: cpus()[0]?.model.trim() ?? 'unknown',
      cores: availableParallelism(),
      memoryGB: totalmem() / 2 ** 30,
      platform: `${process.platform} ${process.arch}`,
      node: process.version,
      loadBefore,
    },
    settings: {
      store,
      workers: options.url === undefined ? (options.workers ?? '1') : 'unknown',
      argon2: argon2 && { ...argon2, atOnce: services.hashesAtOnce, build: argon2Build },
      algorithm,
      connections: options.connections,
      secondsEach,
      rounds: options.rounds,
    },
    service: {
      ...(readyMs !== undefined && { readyMs }),
      ...(idleMB !== undefined && { idleMB }),
      ...(peakMB !== undefined && { peakMB }),
    },
    figures: lines,
    notes: [...new Set(notes)],
  }
}

function medianOf(rounds: Measured[]): Measured {
  const of = (read: (round: Measured) => number) => median(rounds.map(read))
  return {
    perSecond: of(({ perSecond }) => perSecond),
    p50Ms: of(({ p50Ms }) => p50Ms),
    p99Ms: of(({ p99Ms }) => p99Ms),
    errors: 0,
    ...(rounds.every(({ cpuUs }) => cpuUs !== undefined) && { cpuUs: of(({ cpuUs }) => cpuUs as number) }),
  }
}

interface Programs {
  generator: Remote
  parts: Remote
}

/** What is measured, and beside what. */
function figuresOf(
  { connections, url, databaseUrl }: BenchOptions,
  {
    main,
    embedded,
    client,
    hashesAtOnce,
    argon2,
    algorithm,
    dir,
    databaseUrl: ownUrl,
    issuer,
    audience,
  }: Awaited<ReturnType<typeof startServices>>,
  { generator, parts }: Programs,
  notes: string[],
): { figures: Figure[]; listen: () => Promise<void> } {
  /** Ceilings are of this machine, so they say nothing of another. */
  const hasCeilings = url === undefined || isLocal(url)
  let bareOrigin = ''
  const bareRoutes: BareRoute[] = []

  async function generate(title: string, load: Load, pid: number | undefined): Promise<LoadResult> {
    const cpuBefore = pid === undefined ? undefined : cpuSeconds(pid)
    const result = await generator.call<LoadResult>('generate', load)
    const cpuAfter = pid === undefined ? undefined : cpuSeconds(pid)
    if (result.wrong !== undefined) notes.push(`${title}: the first answer that was wrong: ${result.wrong}`)
    if (result.generatorBusy > generatorLimit) {
      notes.push(`The load generator was busy all the time with "${title}": what it called could have answered more.`)
    }
    if (cpuBefore === undefined || cpuAfter === undefined) return result
    return { ...result, cpuUs: ((cpuAfter - cpuBefore) * 1e6) / Math.max(1, result.answers) }
  }

  /** A figure over HTTP, and the same request to a bare route with an answer as large. */
  function http(
    name: FigureName,
    title: string,
    load: Omit<Load, 'origin' | 'seconds'>,
    service: Service = main,
  ): Figure & { bare: Ceiling } {
    const route: BareRoute = { method: load.method, path: `/${name}`, bytes: 0 }
    const bareTitle = load.method === 'GET' ? 'bare GET' : 'bare form POST'
    if (service === main) bareRoutes.push(route)
    const requests = [...load.requests]
    return {
      name,
      title,
      async run(seconds) {
        const result = await generate(title, { ...load, requests, origin: service.origin, seconds }, service.pid)
        route.bytes = result.answerBytes
        for (const [index, body] of result.bodies.entries()) Object.assign(requests[index] as object, { body })
        return result
      },
      ceilings: [],
      bare: {
        title: bareTitle,
        run(seconds) {
          if (bareOrigin === '') return Promise.resolve(undefined)
          const { next: _, ...same } = { ...load, requests, origin: bareOrigin, path: route.path, seconds }
          return generate(bareTitle, { ...same, expected: route.bytes === 0 ? 204 : 200 }, parts.pid)
        },
      },
    }
  }
  const part = (title: string, name: string, span: object): Ceiling => ({
    title,
    run: (seconds) => parts.call(name, { ...span, seconds }),
  })

  const logins = Math.min(connections, loginsPerCore * hashesAtOnce)
  const basic = client && { authorization: `Basic ${Buffer.from(`${client.id}:${client.secret}`).toString('base64')}` }
  const postForm = (bodies: string[], headers = {}) => ({
    method: 'POST' as const,
    path: '/token',
    requests: bodies.map((body) => ({ headers: { ...form, ...headers }, body })),
    expected: 200,
  })
  const get = (path: string, expected: number) => ({
    method: 'GET' as const,
    path,
    requests: main.sessions.map((tokens) => ({ headers: bearer(tokens) })),
    expected,
  })
  const json = { 'content-type': 'application/json' }
  const tokens = main.sessions.map(({ access_token }) => access_token)

  const hashSpan = argon2 && {
    ...({ memoryCost: argon2.memory, timeCost: argon2.passes, parallelism: argon2.lanes } satisfies Partial<HashSpan>),
    atOnce: hashesAtOnce,
  }
  const storeSpan: Partial<StoreSpan> = { atOnce: connections, ...(ownUrl ? { databaseUrl: ownUrl } : { dir }) }
  const verifySpan: Partial<VerifySpan> = {
    ...{ atOnce: connections, tokens, issuer, audience, origin: main.origin },
    ...(client && { clientId: client.id, clientSecret: client.secret }),
  }
  const bareVerify = hashSpan && part('bare argon2.verify', 'verifyHash', hashSpan)
  const bareHash = hashSpan && part('bare argon2.hash', 'makeHash', hashSpan)
  const bareStore = ownUrl
    ? part('bare UPDATE in PostgreSQL', 'updatePostgres', storeSpan)
    : part('bare put in LMDB, synced', 'putLmdb', storeSpan)
  const bareSignature = part(`bare ${algorithm} signature`, 'sign', { alg: algorithm as SigningAlg })
  const verifying = (title: string, remembers: number) => part(title, 'verifyLatchkey', { ...verifySpan, remembers })
  const bareJose = part('bare jose.jwtVerify', 'verifyJose', verifySpan)

  const login = http(
    'logins',
    'logins',
    postForm(
      main.users
        .slice(0, logins)
        .map((username) =>
          new URLSearchParams({ grant_type: 'password', username, password: main.password }).toString(),
        ),
    ),
  )
  const refreshing = (service: Service) => ({
    ...postForm(service.sessions.map(({ refresh_token }) => asForm(refresh_token))),
    next: 'refresh' as const,
  })
  const refreshes = http('refreshes', 'refreshes', refreshing(main))
  const onLmdb = embedded && http('refreshes', 'refreshes on LMDB', refreshing(embedded), embedded)
  const guarded = http('protected', 'GET /protected', get('/protected', 200))
  const verified = http('verify', 'GET /verify', get('/verify', 204))
  const granted =
    basic &&
    http(
      'client-credentials',
      'client credentials',
      postForm(Array(connections).fill('grant_type=client_credentials'), basic),
    )
  const introspected =
    basic &&
    http('introspections', 'introspections', {
      ...postForm(
        tokens.map((token) => `token=${token}`),
        basic,
      ),
      path: '/introspect',
    })
  const signups = http('signups', 'signups', {
    method: 'POST',
    path: '/signup',
    requests: Array.from({ length: logins }, () => ({ headers: json })),
    expected: 201,
    next: 'signup',
  })

  const beside = (figure: (Figure & { bare: Ceiling }) | undefined, ...ceilings: (Ceiling | undefined)[]): Figure[] =>
    figure ? [{ ...figure, ceilings: hasCeilings ? ceilings.filter((ceiling) => ceiling !== undefined) : [] }] : []
  const figures: Figure[] = [
    ...beside(login, bareVerify),
    // In a service that runs they would stay.
    ...(url === undefined ? beside(signups, bareHash) : []),
    ...beside(refreshes, refreshes.bare, url === undefined ? bareStore : undefined, bareSignature, onLmdb),
    ...beside(granted, granted?.bare, bareSignature),
    ...beside(introspected, introspected?.bare),
    ...beside(guarded, guarded.bare),
    ...beside(verified, verified.bare),
    { name: 'latchkey-verify', ...verifying('latchkey/verify, seen before', 5_000), ceilings: [bareJose] },
    // Two tokens in turn, of which one is remembered, are new each time.
    ...(connections > 1
      ? [
          {
            name: 'latchkey-verify-new' as const,
            ...verifying('latchkey/verify, first sight', 1),
            ceilings: [bareJose],
          },
        ]
      : []),
  ]
  if (databaseUrl !== undefined) notes.push('The processor time of the database is not in the figures.')
  return {
    figures,
    async listen() {
      if (hasCeilings) bareOrigin = await parts.call('listen', bareRoutes)
    },
  }
}
