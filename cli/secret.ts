import { type Config, ConfigError } from '../config.ts'
import { clockSkewMs } from '../domain/time.ts'
import { createClientSecrets } from '../plugins/clients/client-secrets.ts'
import { readDeclarations } from '../plugins/clients/declared-clients.ts'
import {
  changedAt,
  countSealed,
  everySealed,
  markChanged,
  type Sealed,
  type SealedTable,
  sealedTables,
  sessionsBefore,
} from '../plugins/keys/resealing.ts'
import { ifSecretIsLost, readMadeSecret } from '../plugins/keys/secret-file.ts'
import { createSecrets } from '../plugins/keys/secrets.ts'
import { sessionLives } from '../plugins/sessions/lives.ts'
import { pagesOf } from '../stores/moving/copy.ts'
import type { Store } from '../stores/store.ts'
import type { Io, Options } from './command.ts'
import { tell } from './event-log.ts'
import { exitCodes } from './exit.ts'
import { fields, type Output, when } from './output.ts'
import { opener, openPlace, type Place, readPlace, readSettings, sealedSigner } from './places.ts'

/** What there is to say about a change of secrets. */
interface Report extends Record<SealedTable, Sealed> {
  store: string
  /** `may_go` also when nothing was ever under it */
  previous: 'not_set' | 'needed' | 'may_go'
  resealed?: Record<SealedTable, number>
  /** when `secret rotate` was run first, RFC 3339 */
  changed_at?: string
  sessions?: { live: number; not_refreshed: number }
  /** whose secrets, of AUTH_CLIENTS_FILE, are not kept under the new one */
  clients?: string[]
  /** of the last session that has not been refreshed */
  needed_until?: string
}

/** `latchkey secret rotate`. @returns the exit code: 1 where something is still under the previous secret */
export const secretRotate = (io: Io, _options: Options, output: Output) => withStore(io, output, true)

/** `latchkey secret status`. */
export const secretStatus = (io: Io, _options: Options, output: Output) => withStore(io, output, false)

async function withStore(io: Io, output: Output, reseal: boolean): Promise<number> {
  const config = readSettings(io.env)
  const place = readPlace(undefined, config, io.env)
  const store = await openPlace(place, { mustExist: true })
  try {
    const report = await examine(store, place, config, { io, output, reseal })
    output.endProgress()
    output.print(output.isJson ? JSON.stringify(report) : textOf(report))
    const isLeft = reseal && isStillUnderPrevious(report)
    return isLeft ? exitCodes.problems : exitCodes.fine
  } finally {
    output.endProgress()
    await store.close()
  }
}

/** Others may seal under the old secret meanwhile, or change a record in the moment in which it is sealed anew. */
const roundsAtMost = 3

async function examine(
  store: Store,
  place: Place,
  config: Config,
  { io, output, reseal }: { io: Io; output: Output; reseal: boolean },
): Promise<Report> {
  const secrets = await knownSecrets(store, place, config)
  const [current = '', previous] = secrets
  const now = Date.now()
  const onProgress = (table: string, rows: number) =>
    output.progress(`reading ${table.replace('_', ' ')}: ${rows.toLocaleString('en-US')}`)

  const resealed = everySealed(() => 0)
  for (let round = 0; reseal && previous !== undefined && round < roundsAtMost; round++) {
    const counts = await countSealed(store, secrets, { now, reseal, onProgress })
    for (const table of sealedTables) resealed[table] += counts[table].resealed
    if (sealedTables.every((table) => counts[table].previous === 0)) break
  }
  // Read back, whatever was written.
  const counts = await countSealed(store, secrets, { now, reseal: false, onProgress })
  const sealed = everySealed((table) => {
    const { resealed: _, ...sealed } = counts[table]
    return sealed
  })
  const report: Report = { store: place.label, previous: 'not_set', ...sealed }
  if (reseal) report.resealed = resealed
  if (previous === undefined) return report

  const pair: [string, string] = [current, previous]
  const isSealed = !isStillUnderPrevious(report)
  if (reseal && isSealed) {
    const isFirst = (await changedAt(store, pair, now)) === undefined
    const at = await markChanged(store, pair, now)
    if (isFirst || sealedTables.some((table) => resealed[table] > 0)) await tell(io, store, 'secret.rotated', resealed)
    report.changed_at = new Date(at).toISOString()
  }
  const at = report.changed_at ? Date.parse(report.changed_at) : await changedAt(store, pair, now)
  report.previous = 'needed'
  if (at === undefined) return report

  const limits = { now, ...sessionLives(config) }
  const skewMs = place.kind === 'lmdb' ? 0 : clockSkewMs
  const { live, waiting, until } = await sessionsBefore(store, at + skewMs, limits, onProgress)
  report.changed_at = new Date(at).toISOString()
  report.sessions = { live, not_refreshed: waiting }
  report.clients = await clientsBefore(store, current, config)
  if (until !== undefined) report.needed_until = new Date(until).toISOString()
  if (isSealed && waiting === 0 && report.clients.length === 0) report.previous = 'may_go'
  return report
}

/**
 * @returns the current secret, and the one before where there is one
 * @throws {ConfigError} where there is none, or it does not open the key that signs
 */
async function knownSecrets(store: Store, place: Place, config: Config): Promise<string[]> {
  const { AUTH_SECRET, AUTH_SECRET_PREVIOUS: previous, AUTH_SIGNING_KEY_FILE: operatorKey } = config
  const current = AUTH_SECRET ?? (place.kind === 'lmdb' ? readMadeSecret(place.dir) : undefined)
  const secrets = [current, ...(previous === current ? [] : [previous])].filter((secret) => secret !== undefined)
  const signer = sealedSigner(await store.listSigningKeys(), config)
  const isWrong = signer !== undefined && operatorKey === undefined && !opener(secrets)(signer)
  if (current !== undefined && !isWrong) return secrets
  throw new ConfigError(
    'AUTH_SECRET: expected the secret that sealed the signing keys in the store, or AUTH_SECRET_PREVIOUS with ' +
      `it; ${ifSecretIsLost}`,
  )
}

/** Clients whose secrets the store keeps by a MAC that is not, as far as AUTH_CLIENTS_FILE tells, of the new secret. */
async function clientsBefore(store: Store, current: string, config: Config): Promise<string[]> {
  const { hashDeclared, isGuessable } = createClientSecrets({ secrets: createSecrets([current]), now: Date.now })
  const path = config.AUTH_CLIENTS_FILE
  const declared = new Map(
    (path === undefined ? [] : readDeclarations(path, config.AUTH_FETCH_ALLOW)).map(({ definition, secrets }) => [
      definition.id,
      secrets,
    ]),
  )
  const ids: string[] = []
  for await (const clients of pagesOf(store, 'clients')) {
    for (const client of clients.filter(isGuessable)) {
      const texts = declared.get(client.id)
      const isKept = texts?.every((text) => client.secrets.some(({ hash }) => hash === hashDeclared(text)))
      if (!isKept) ids.push(client.id)
    }
  }
  return ids
}

const isStillUnderPrevious = (report: Report) => sealedTables.some((table) => report[table].previous > 0)

/** What has become of what no secret opens. */
const ofNeither: Record<SealedTable, string> = {
  signing_keys: 'they only verify',
  factors: 'no code of theirs is right any more',
  records: 'they expire',
}

function textOf(report: Report): string {
  const { previous, resealed, sessions, clients = [], changed_at, needed_until } = report
  const sealedLine = (table: SealedTable) => {
    const { current, previous, another } = report[table]
    const anew = resealed ? resealed[table] : 0
    const parts = [
      `${current} under AUTH_SECRET${anew > 0 ? ` (${anew} sealed anew)` : ''}`,
      ...(previous > 0 ? [`${previous} under AUTH_SECRET_PREVIOUS`] : []),
      ...(another > 0 ? [`${another} under neither: ${ofNeither[table]}`] : []),
    ]
    return parts.join(', ')
  }
  const lines = fields({
    store: report.store,
    'signing keys': sealedLine('signing_keys'),
    'authenticator apps': sealedLine('factors'),
    records: sealedLine('records'),
    sessions: sessions && `${sessions.live} live, ${sessions.not_refreshed} not refreshed since ${when(changed_at)}`,
    clients: clients.length > 0 ? clients.join(' ') : undefined,
  })
  return `${lines}\n\n${verdictOf()}`

  function verdictOf(): string {
    if (previous === 'not_set') return 'AUTH_SECRET_PREVIOUS is not set, and nothing needs it.'
    if (previous === 'may_go') return 'AUTH_SECRET_PREVIOUS may go.'
    if (isStillUnderPrevious(report) && resealed)
      return 'AUTH_SECRET_PREVIOUS is needed: a process still seals under it.\nStart each with the new AUTH_SECRET, and repeat.'
    if (!sessions)
      return 'AUTH_SECRET_PREVIOUS is needed.\nWhen every process has the new AUTH_SECRET: latchkey secret rotate'
    const why = [
      ...(sessions.not_refreshed > 0
        ? [`until ${when(needed_until)} at the latest, for sessions that have not been refreshed`]
        : []),
      ...(clients.length > 0
        ? ['for clients of AUTH_CLIENTS_FILE: start the service with that file, and set it here too']
        : []),
    ]
    return `AUTH_SECRET_PREVIOUS is needed ${why.join(',\nand ')}.\nAsk again: latchkey secret status`
  }
}
