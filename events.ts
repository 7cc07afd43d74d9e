import type { Acr, Amr } from './domain/authentication.ts'
import type { Log } from './domain/caller.ts'
import type { FactorKind } from './domain/factor.ts'

/** What an event is logged as; `Members` is what its line has besides. */
interface EventType<Members extends object> {
  level: 'info' | 'warn' | 'error'
  /** of the audit row */
  outcome: 'success' | 'failure'
  words: string
  /** for the compiler only */
  members?: Members
}

const info = <Members extends object>(words: string): EventType<Members> => ({
  level: 'info',
  outcome: 'success',
  words,
})
const warn = <Members extends object>(words: string): EventType<Members> => ({
  level: 'warn',
  outcome: 'failure',
  words,
})
const error = <Members extends object>(words: string): EventType<Members> => ({
  level: 'error',
  outcome: 'failure',
  words,
})

interface OfUser {
  sub: string
}
interface OfClient {
  client_id: string
}
interface OfKey {
  kid: string
  alg: string
}
interface OfFactor {
  factor: string
  kind: FactorKind
}
interface OfInvitation {
  invitation: string
}
interface OfWebhook {
  webhook: string
  host: string
}

/**
 * Events that tell of a change in the store. They go with the write, through `plugins/run/changes.ts`; the part before
 * the dot says what was changed, for caches.
 */
const changes = {
  'user.created': info<OfUser & { invitation?: string }>('an account was made'),
  'user.deleted': info<OfUser>('an account was deleted'),
  'user.disabled': info<OfUser>('an account was disabled'),
  'user.enabled': info<OfUser>('an account was enabled'),
  'user.impersonated': info<OfUser & OfClient & { scope: string; audience: string }>(
    'an administrator got a token to see what a user sees',
  ),
  'user.roles_set': info<OfUser & { roles: string[] }>('the roles of a user were set'),
  'user.renamed': info<OfUser>('a user was renamed'),
  'users.imported': info<{ source: string; made: number; updated: number; unchanged: number; skipped: number }>(
    'users were imported',
  ),
  'email.asked': info<OfUser>('a user named an address, which is to be verified'),
  'email.verified': info<OfUser>('an address was verified'),
  'email.changed': info<OfUser>('another address was verified, in the place of one'),
  'email.restored': info<OfUser>('an address was brought back from a mail to it; all sessions were ended'),
  'password.changed': info<OfUser>('a password was changed'),
  'email.set': info<OfUser & { verified: boolean }>('an address was set by an administrator'),
  'email.removed': info<OfUser>('an address was removed by an administrator'),
  'password.set': info<OfUser>('a password was set by an administrator'),
  'password.reset': info<OfUser>('a forgotten password was replaced'),
  /** `amr` of more than a password */
  'login.succeeded': info<OfUser & OfClient & { sid: string; address: string; amr?: Amr[]; browser?: string }>(
    'a login',
  ),
  'session.raised': info<OfUser & OfClient & { sid: string; acr: Acr }>('a user signed in anew within a session'),
  'browser.signed_in': info<OfUser & { browser: string; address: string; amr: Amr[] }>('a user signed in in a browser'),
  'browser.signed_out': info<OfUser & { browser: string }>('a user was signed out in a browser, and of its apps'),
  'consent.given': info<OfUser & OfClient & { scope: string }>('a user has allowed an app'),
  'consent.withdrawn': info<OfUser & OfClient>('a user has taken back what an app was allowed'),
  'session.ended': info<OfUser & { sid: string }>('a session was ended'),
  'sessions.ended': info<OfUser>('all sessions of a user were ended'),
  'factor.added': info<OfUser & OfFactor>('a second factor was added'),
  'factor.removed': info<OfUser & OfFactor>('a second factor was removed'),
  'factors.reset': info<OfUser>(
    'all second factors of a user were removed by an administrator; all sessions were ended',
  ),
  'recovery_codes.made': info<OfUser>('recovery codes were made, in the place of those before'),
  'recovery_code.used': info<OfUser & { left: number }>('a recovery code was used'),
  'refresh.reused': warn<OfUser & OfClient & { sid: string; address: string }>('a spent refresh token came back'),
  'token.revoked': info<OfUser & OfClient & { jti: string }>('an access token was revoked'),
  'client.created': info<OfClient>('a client was made'),
  'client.changed': info<OfClient>('a client was changed'),
  'client.secret_rotated': info<OfClient & { overlap_seconds: number }>('a client got a new secret'),
  'client.disabled': info<OfClient>('a client was disabled'),
  'client.enabled': info<OfClient>('a client was enabled'),
  'client.deleted': info<OfClient>('a client was deleted'),
  'key.added': info<OfKey>("the operator's signing key was added"),
  'key.rotated': info<OfKey & { signs_from: string }>('a signing key was made'),
  'key.retired': info<OfKey>('a signing key was retired'),
  'key.withdrawn': info<{ kid: string }>('a signing key was withdrawn: what it signed is refused'),
}

/** Why a login failed. A closed list, for they are labels of a metric too. */
export const loginFailures = [
  'unknown user',
  'disabled user',
  'wrong password',
  'wrong code',
  'wrong recovery code',
  'wrong passkey',
] as const
export type LoginFailure = (typeof loginFailures)[number]

/** Events of which the store knows nothing, and of commands that act on it without the service's app. */
const notes = {
  'code.reused': warn<OfClient & { sid: string }>(
    'a code that was traded in came back, and the session of it was ended',
  ),
  'device.allowed': info<OfUser & OfClient & { device_address: string }>('a user has let a device sign in'),
  'device.refused': info<OfUser & OfClient & { device_address: string }>('a user has not let a device sign in'),
  'logout.failed': warn<OfUser & OfClient & { sid: string; reason: string; tries: number }>(
    'a client was told at no try that a session has ended',
  ),
  'login.failed': warn<{ reason: LoginFailure; sub?: string; account?: string; address: string }>('a login failed'),
  'passkey.cloned': warn<OfUser & { factor: string }>(
    'a passkey was refused whose counter went back: there may be a copy',
  ),
  'password.forgotten': info<{ sub?: string; account?: string; address: string }>(
    'somebody asked for a mail to replace a password',
  ),
  'login.throttled': warn<{
    kind: 'user' | 'client' | 'user_code'
    wait_seconds: number
    account: string | undefined
    address: string
    sub?: string
    client_id?: string
  }>('an account waits after failed logins'),
  'client.refused': warn<{ reason: string; client_id?: string; address: string }>('a client could not authenticate'),
  'secret.rotated': info<{ signing_keys: number; factors: number; records: number }>(
    'a change of secrets is over: so many were sealed anew',
  ),
  'key.lost': warn<OfKey>('a signing key was removed that no secret opens any more'),
  'invitation.made': info<OfInvitation & { roles: string[]; mailed: boolean }>('somebody was invited'),
  'invitation.withdrawn': info<OfInvitation>('an invitation was withdrawn'),
  'webhook.disabled': warn<OfWebhook & { reason: string }>('a webhook was disabled: it took an event at no try'),
  'webhook.enabled': info<OfWebhook>('a webhook was enabled'),
  'webhook.resent': info<OfWebhook & { since: string }>('a webhook is told again of what has happened'),
  'mail.failed': warn<{ mail: string; kind: string; reason: string; tries: number; sub?: string }>(
    'a mail was given up: it was taken at no try, or what it is for has expired',
  ),
  'worker.started': info<{ worker: number | undefined }>('a worker was started in the place of another'),
  'worker.ended': error<{ worker: number | undefined; how: number | string; next_in_ms: number }>(
    'a worker ended; another is started in its place',
  ),
  'log.dropped': warn<{ lines: number }>('lines were dropped here, because nobody read the log or the disk was full'),
  'store.damaged': error<object>('the store is damaged'),
  'store.broken': error<object>('the disk has failed the store'),
}

/** Every event that Latchkey logs. `docs/operations.md` lists them, and a test holds it to this table. */
export const events = { ...changes, ...notes }

export type EventName = keyof typeof events
export const isChange = (event: EventName): event is ChangeName => event in changes
/** An event of a change; see `plugins/run/changes.ts`. */
export type ChangeName = keyof typeof changes
export type NoteName = keyof typeof notes
export type MembersOf<Name extends EventName> = NonNullable<(typeof events)[Name]['members']>

/**
 * Writes the line of an event.
 *
 * @param words in the place of those of the table, where they say more
 */
export function logEvent<Name extends EventName>(
  log: Pick<Log, 'info' | 'warn' | 'error'>,
  event: Name,
  members: MembersOf<Name>,
  words: string = events[event].words,
): void {
  log[events[event].level]({ event, ...members }, words)
}
