import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { AuditRow } from '../../domain/audit.ts'
import type { FactorKind } from '../../domain/factor.ts'
import { placeOf } from '../../domain/places.ts'
import { elapsedMs } from '../../domain/time.ts'
import type { EventName } from '../../events.ts'
import { StoreUnavailable } from '../../stores/store.ts'
import { createHolding, createPositions, type Followed } from '../run/positions.ts'
import type { NoticeKind } from './kinds.ts'
import { factsOf } from './mail.ts'
import type { FactorChange, Way } from './texts/texts.ts'

declare module 'fastify' {
  interface FastifyInstance {
    mailNotices: Awaited<ReturnType<typeof createNotices>>
  }
}

/** What a mail says besides, of the detail of the row. */
type About = (detail: Record<string, unknown>) => { how?: Way; what?: FactorChange; left?: string }
const how = (how: Way) => () => ({ how })
const factor = (about: About) => ({ kind: 'factor_changed' as const, about })

/** Of which events a user is told. */
const notices: Partial<Record<EventName, { kind: NoticeKind; about?: About }>> = {
  'login.succeeded': { kind: 'sign_in' },
  'browser.signed_in': { kind: 'sign_in' },
  'password.changed': { kind: 'password_changed', about: how('changed') },
  'password.reset': { kind: 'password_changed', about: how('reset') },
  'password.set': { kind: 'password_changed', about: how('set') },
  'refresh.reused': { kind: 'refresh_reused' },
  'factor.added': factor(({ kind }) => ({ what: `${kind as Exclude<FactorKind, 'recovery_code'>}_added` })),
  'factor.removed': factor(({ kind }) => ({ what: `${kind as FactorKind}_removed` })),
  'factors.reset': factor(() => ({ what: 'reset' })),
  'recovery_codes.made': factor(() => ({ what: 'codes_made' })),
  'recovery_code.used': factor(({ left }) => ({ what: 'code_used', left: String(left) })),
}
/** Not of an app in a browser: there its user had signed in before, and the row may tell of the app's server. */
const isSignIn = ({ event, detail }: AuditRow) =>
  event === 'browser.signed_in' || (event === 'login.succeeded' && detail?.['browser'] === undefined)

/** Between two looks at what has happened. */
const pollMs = 1000
const rowsPerPage = 128
/** Longer than a page takes. */
const abandonedMs = 30_000
/** What happened longer ago is no news: mail was off meanwhile, or the store was moved. */
const newsMs = 86_400_000
/** Of what happened to a user, the rows that are looked at for a sign-in from the same place: most often, the last. */
const lookedAtMost = 2_000
const [rowsOfFirstLook, rowsPerLook] = [5, 100]

const id = 'notices'

/**
 * Tells users by mail what has happened to their accounts, at an address that is theirs. It follows the audit rows, so
 * that nothing is left out that a process did before it was killed; of all processes on a store one does so at a time.
 */
async function createNotices(
  app: Pick<FastifyInstance, 'store' | 'mail' | 'jobs' | 'log' | 'command' | 'now' | 'uptimeMs'>,
) {
  const { store, mail, jobs, log, command, now } = app
  const positions = createPositions<Followed>(app, 'mail', (cursor) => ({ cursor }))
  const holding = createHolding(app, abandonedMs)
  /** Rows of the page whose notices are written: the store may fail in the middle of it. */
  const had = new Set<string>()
  let isStopping = false
  let running: Promise<void> | undefined

  async function round(): Promise<void> {
    const stored = await positions.findOrMake(id)
    if (holding.isByAnother(stored)) return
    let page = await store.auditSince(stored.position.cursor, rowsPerPage)
    if (page.rows.length === 0 && !page.more) return
    let held = await positions.replace(id, stored, { ...stored.position, holder: holding.own })
    while (held) {
      for (const row of page.rows) {
        if (!had.has(row.id)) await tellOf(row).catch((error) => passOver(row, error))
        had.add(row.id)
      }
      const goesOn = page.more && !isStopping
      held = await positions.replace(id, held, { cursor: page.cursor, ...(goesOn && { holder: holding.own }) })
      had.clear()
      if (!goesOn) return
      page = await store.auditSince(page.cursor, rowsPerPage)
    }
  }

  /** A row that this program cannot cope with must not keep back all that follow. */
  function passOver({ id, event }: AuditRow, err: unknown): void {
    if (err instanceof StoreUnavailable) throw err
    log.error({ err, audit: id, of: event }, 'a user could not be told of what has happened')
  }

  async function tellOf(row: AuditRow): Promise<void> {
    const notice = notices[row.event as EventName]
    if (!notice || row.user === undefined || elapsedMs(row.at, now()) > newsMs) return
    const user = await store.findUser(row.user)
    // Anybody may have typed an address that is not verified.
    if (user?.email === undefined || user.emailKey === undefined) return
    if (notice.kind === 'sign_in' && !(isSignIn(row) && (await isNewPlace(row)))) return
    const { kind, about } = notice
    // Where an administrator sits is nothing to tell.
    const facts = factsOf(row.by === undefined ? row : {}, user.username, row.at)
    const told = { ...facts, ...about?.(row.detail ?? {}) }
    await mail.tell(kind, { owner: user.id, to: user.email, locale: user.locale ?? 'en', about: told })
  }

  /** Whether the user has signed in before, and never from there, as far as the audit trail goes back. */
  async function isNewPlace(row: AuditRow): Promise<boolean> {
    const place = placeOf(row)
    let hasSignedIn = false
    let after = row.id
    for (let looked = 0, limit = rowsOfFirstLook; looked < lookedAtMost; looked += limit, limit = rowsPerLook) {
      const { rows, next } = await store.listAudit({ user: row.user as string }, { after, limit })
      for (const earlier of rows) {
        if (!isSignIn(earlier)) continue
        if (placeOf(earlier) === place) return false
        hasSignedIn = true
      }
      if (next === undefined) return hasSignedIn
      after = next
    }
    return true
  }

  /** Looks at once, for tests; a round that is under way is waited for. */
  const look = (): Promise<void> => {
    running ??= round().finally(() => {
      running = undefined
    })
    return running
  }
  if (mail.isOn && !command) {
    // What happens from the first request on is told of. A store that takes no writes yet is waited for in the round.
    await positions.findOrMake(id).catch(ignoreUnavailable)
    jobs.every(pollMs, look, 'users could not be told of what has happened')
  }

  return {
    look,
    /** Ends with the page that it is at. */
    stop(): void {
      isStopping = true
    },
  }
}

function ignoreUnavailable(error: unknown): void {
  if (!(error instanceof StoreUnavailable)) throw error
}

export default fp(
  async (app: FastifyInstance) => {
    const mailNotices = await createNotices(app)
    app.decorate('mailNotices', mailNotices)
    app.addHook('preClose', async () => mailNotices.stop())
  },
  { name: 'mail-notices', dependencies: ['store', 'mail', 'jobs'] },
)
