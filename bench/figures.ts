/* The figures of a run, each beside its ceilings: what bounds it, measured on the same machine in the same rounds. */
import type { BareRoute } from './ceilings.ts'
import { bearerLoad, createLoader, formLoad, type Load, loginLoad, refreshLoad, signupLoad } from './load.ts'
import { type BenchOptions, type FigureName, figureNames } from './options.ts'
import { startRemote } from './processes.ts'
import type { Case } from './rounds.ts'
import { partOf, type Services } from './services.ts'

export interface Figure extends Case {
  name: FigureName
  /** the first is the one that counts */
  ceilings: Case[]
}

/** A figure and its ceilings; nothing where it cannot be measured, and undefined for a ceiling that cannot. */
type Row = (Case | undefined)[]

/** Logins under way for each hash that is computed, so that no hash waits for a request. */
const loginsPerHash = 4
/** Tokens that a verifier remembers; two in turn are new each time to one that remembers a single token. */
const [remembersAll, remembersOne] = [5_000, 1]
const isLocal = (url: string) => /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(new URL(url).hostname)

/**
 * @param notes takes what the reader of the figures should know
 * @returns the figures that were asked for and can be measured, and a function that starts the bare routes, whose
 * answers are as large as those that the figures got so far
 */
export function createFigures({ connections, url, only }: BenchOptions, services: Services, notes: string[]) {
  const { main, embedded, client, hashes, atOnce, algorithm, dir, databaseUrl } = services
  const loadCase = createLoader((note) => notes.push(note))
  const parts = startRemote('./ceilings.js', { UV_THREADPOOL_SIZE: String(atOnce + 4) }, ['--max-semi-space-size=4'])
  const bare = { origin: '', pid: parts.pid }
  const routes: BareRoute[] = []

  /** A figure, and the same requests to a bare route with an answer as large. */
  function beside(title: string, load: Load, ...others: Row): Row {
    const route: BareRoute = { method: load.method, path: `/${routes.length}`, bytes: 0 }
    routes.push(route)
    const { next: _, ...same } = { ...load, path: route.path }
    const figure = loadCase(title, main, load, (bytes) => {
      route.bytes = bytes
      same.expected = bytes === 0 ? 204 : 200
    })
    return [figure, loadCase(load.method === 'GET' ? 'bare GET' : 'bare form POST', bare, same), ...others]
  }
  const part = (title: string, name: string, span: object): Case => ({
    title,
    run: (seconds) => parts.call(name, { concurrency: connections, ...span, seconds }),
  })
  const hash = (title: string, name: string) => hashes && part(title, name, { ...hashes, concurrency: atOnce })

  const tokens = main.sessions.map(({ access_token }) => access_token)
  const { iss: issuer, aud } = partOf(main, 1)
  const follower = client && { clientId: client.id, clientSecret: client.secret }
  const verifySpan = { tokens, issuer, audience: [aud].flat()[0], origin: main.origin, ...follower }
  // The same part under two figures is measured once a round.
  const signature = part(`bare ${algorithm} signature`, 'sign', { alg: algorithm })
  const jose = part('bare jose.jwtVerify', 'verifyJose', verifySpan)
  const storeWrite = databaseUrl
    ? part('bare UPDATE in PostgreSQL', 'updatePostgres', { databaseUrl })
    : part('bare put in LMDB, synced', 'putLmdb', { dir })
  const logins = Math.min(connections, loginsPerHash * atOnce)
  const basic = client && { authorization: `Basic ${Buffer.from(`${client.id}:${client.secret}`).toString('base64')}` }
  const granted = Array<string>(connections).fill('grant_type=client_credentials')
  const asked = tokens.map((token) => `token=${token}`)
  const verifying = (title: string, cacheSize: number): Row => [
    part(title, 'verifyLatchkey', { ...verifySpan, cacheSize }),
    jose,
  ]
  const rows: Record<FigureName, () => Row> = {
    logins: () => [
      loadCase('logins', main, loginLoad(main.users.slice(0, logins), main.password)),
      hash('bare argon2.verify', 'verifyHash'),
    ],
    // In a running service the new users would stay.
    signups: () =>
      url === undefined ? [loadCase('signups', main, signupLoad(logins)), hash('bare argon2.hash', 'makeHash')] : [],
    refreshes: () =>
      beside(
        'refreshes',
        refreshLoad(main.sessions),
        url === undefined ? storeWrite : undefined,
        signature,
        embedded && loadCase('refreshes on LMDB', embedded, refreshLoad(embedded.sessions)),
      ),
    'client-credentials': () =>
      basic ? beside('client credentials', formLoad('/token', granted, basic), signature) : [],
    introspections: () => (basic ? beside('introspections', formLoad('/introspect', asked, basic)) : []),
    protected: () => beside('GET /protected', bearerLoad('/protected', main.sessions)),
    verify: () => beside('GET /verify', bearerLoad('/verify', main.sessions, 204)),
    'latchkey-verify': () => verifying('latchkey/verify, seen before', remembersAll),
    'latchkey-verify-new': () => (connections > 1 ? verifying('latchkey/verify, first sight', remembersOne) : []),
  }

  /** Ceilings are those of this machine. */
  const hasCeilings = url === undefined || isLocal(url)
  const figures = figureNames.flatMap((name): Figure[] => {
    const [figure, ...ceilings] = only && !only.includes(name) ? [] : rows[name]()
    if (!figure) return []
    const isCall = name.startsWith('latchkey-verify')
    return [{ ...figure, name, ceilings: hasCeilings || isCall ? ceilings.filter((one) => one !== undefined) : [] }]
  })
  const listen = async () => {
    if (hasCeilings) bare.origin = await parts.call('listen', routes)
  }
  return { figures, listen }
}
