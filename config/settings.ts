import { availableParallelism } from 'node:os'
import { type StaticDecode, Type } from '@sinclair/typebox'
import { mfaPolicies } from '../domain/factor.ts'
import { expectedSecret, readSecret } from '../domain/webhook-secret.ts'
import {
  validateDatabaseUrl,
  validateFetchAllow,
  validateHost,
  validateIssuer,
  validateMetadataHost,
  validateProxy,
} from './checks.ts'
import { validateMailFrom, validateMailWebhook, validateSmtpUrl } from './mail.ts'
import { validateOrigin } from './origins.ts'
import { validatePasskeyOrigin } from './passkeys.ts'
import { DurationFrom, ListOf, OneOf, SwitchOrHosts, WholeNumber, Workers } from './types.ts'

/**
 * Every setting: type, default, check and description. `.env.example` is written from it, and a test compares the two.
 */
export const Settings = Type.Object({
  HOST: Type.String({
    default: '127.0.0.1',
    check: validateHost,
    expected: 'an address of this machine, such as 127.0.0.1, 0.0.0.0 or ::, or a name that has one',
    description: 'Address to listen on, or a name that has one',
  }),
  PORT: WholeNumber(0, 65_535, { default: '3000', description: 'Port to listen on; 0 picks a free one and prints it' }),
  LOG_LEVEL: OneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    default: 'info',
    description: 'Least severity that is logged; debug adds a line for each request',
  }),
  AUTH_WORKERS: Workers(64, {
    default: '1',
    description: 'Processes that share the port and the store; auto is one for each core',
  }),
  DATABASE_URL: Type.Optional(
    Type.String({
      pattern: '^postgres(ql)?://.',
      check: validateDatabaseUrl,
      secret: true,
      expected: 'a URL such as postgres://user:password@host:5432/database',
      description: 'PostgreSQL instead of the embedded store; several hosts are tried in turn: host1:5432,host2:5432',
    }),
  ),
  DATABASE_URL_FILE: Type.Optional(Type.String({ description: 'A file that holds DATABASE_URL' })),
  AUTH_DATA_DIR: Type.String({
    default: './data',
    minLength: 1,
    description: 'Where the embedded store and the generated secret live',
  }),
  AUTH_SECRET: Type.Optional(
    Type.String({
      minLength: 32,
      secret: true,
      expected: 'at least 32 characters, for example from "openssl rand -base64 48"',
      description: 'Seals what is secret at rest and keys the refresh tokens; made in AUTH_DATA_DIR when not set',
    }),
  ),
  AUTH_SECRET_FILE: Type.Optional(Type.String({ description: 'A file that holds AUTH_SECRET' })),
  AUTH_SECRET_PREVIOUS: Type.Optional(
    Type.String({
      minLength: 32,
      secret: true,
      expected: 'the AUTH_SECRET that was in use before, at least 32 characters',
      description: 'The secret before this one; what it sealed and signed stays good',
    }),
  ),
  AUTH_SECRET_PREVIOUS_FILE: Type.Optional(Type.String({ description: 'A file that holds AUTH_SECRET_PREVIOUS' })),
  AUTH_ISSUER: Type.Optional(
    Type.String({
      pattern: '^[Hh][Tt][Tt][Pp][Ss]?://.',
      check: validateIssuer,
      expected: 'an http(s) URL without user name, query or fragment, such as https://auth.example.com',
      description: 'The iss of every token; http://localhost:PORT when not set',
    }),
  ),
  AUTH_AUDIENCE: Type.Optional(
    Type.String({ minLength: 1, description: 'The aud of every token; the issuer when not set' }),
  ),
  AUTH_SIGNING_ALG: OneOf(['ES256', 'RS256', 'EdDSA'], {
    default: 'ES256',
    description: 'Algorithm that access tokens are signed with',
  }),
  AUTH_SIGNING_KEY_FILE: Type.Optional(
    Type.String({
      description: 'A private key (PEM or JWK) of your own; generated and kept sealed in the store when not set',
    }),
  ),
  AUTH_KEY_ROTATION: DurationFrom('1h', '3650d', {
    default: '90d',
    description: 'Age at which a generated signing key is replaced',
  }),
  AUTH_ACCESS_TTL: DurationFrom('1s', '3650d', { default: '10m', description: 'Life of an access token' }),
  AUTH_REFRESH_IDLE_TTL: DurationFrom('1s', '36500d', {
    default: '30d',
    description: 'A session ends when it was not refreshed for this long',
  }),
  AUTH_REFRESH_MAX_TTL: DurationFrom('1s', '36500d', {
    default: '90d',
    description: 'A session ends at this age, however much it is used',
  }),
  AUTH_REFRESH_GRACE: DurationFrom('1s', '7d', {
    default: '30s',
    description: 'How long the previous refresh token may be presented again',
  }),
  AUTH_SIGNUP: OneOf(['open', 'closed'], { default: 'open', description: 'Whether strangers may make an account' }),
  AUTH_PASSWORD_GRANT: OneOf(['on', 'off'], {
    default: 'on',
    description: 'Whether POST /token takes a username and password',
  }),
  AUTH_MFA: OneOf([...mfaPolicies], {
    default: 'optional',
    description: 'Who has to have a second factor: required for everybody, admins for users with the role admin',
  }),
  AUTH_STEP_UP_TTL: DurationFrom('1s', '3650d', {
    default: '15m',
    description: 'How long a second factor counts: tokens have the level of one factor after it',
  }),
  AUTH_PASSWORD_MIN: WholeNumber(8, 128, {
    default: '15',
    description: 'Least number of characters in a new password',
  }),
  AUTH_ARGON2_MEMORY: WholeNumber(8, 4_194_304, { default: '19456', description: 'argon2id memory, KiB' }),
  AUTH_ARGON2_TIME: WholeNumber(1, 1000, { default: '2', description: 'argon2id passes' }),
  AUTH_ARGON2_PARALLELISM: WholeNumber(1, 255, { default: '1', description: 'argon2id lanes' }),
  AUTH_HASH_CONCURRENCY: WholeNumber(1, 1024, {
    default: String(availableParallelism()),
    description: 'Password hashes computed at once, by all workers together; the number of cores when not set',
  }),
  AUTH_HASH_MAX_WAIT: DurationFrom('1s', '1h', {
    default: '2s',
    description: 'Longest wait for a hash before the answer is 503',
  }),
  AUTH_THROTTLE: OneOf(['on', 'off'], { default: 'on', description: 'Waits after failed logins; off for a load test' }),
  AUTH_MAIL_FROM: Type.Optional(
    Type.String({
      check: validateMailFrom,
      expected: 'an address, or a name with one: Example <accounts@example.com>',
      description: 'Whom mails come from; mails are sent where one of the next three is set: see docs/e-mail.md',
    }),
  ),
  AUTH_SMTP_URL: Type.Optional(
    Type.String({
      check: validateSmtpUrl,
      secret: true,
      expected: 'a URL such as smtp://user:password@mail.example.com:587, or smtps://… for port 465',
      description: 'The mail server that takes them',
    }),
  ),
  AUTH_SMTP_URL_FILE: Type.Optional(Type.String({ description: 'A file that holds AUTH_SMTP_URL' })),
  AUTH_MAIL_WEBHOOK: Type.Optional(
    Type.String({
      check: validateMailWebhook,
      secret: true,
      expected: 'a URL such as https://mailer.example.com/latchkey',
      description: 'A mailer of your own that takes them, as JSON with a signature',
    }),
  ),
  AUTH_MAIL_WEBHOOK_SECRET: Type.Optional(
    Type.String({
      check: (text: string) => (readSecret(text) ? undefined : 'it has another form'),
      secret: true,
      expected: expectedSecret,
      description: 'What the requests to AUTH_MAIL_WEBHOOK are signed with',
    }),
  ),
  AUTH_MAIL_WEBHOOK_SECRET_FILE: Type.Optional(
    Type.String({ description: 'A file that holds AUTH_MAIL_WEBHOOK_SECRET' }),
  ),
  AUTH_MAIL_DIR: Type.Optional(
    Type.String({ description: 'A directory that gets them as files, for development: latchkey mail shows the last' }),
  ),
  AUTH_EMAIL: OneOf(['optional', 'required'], {
    default: 'optional',
    description: 'Whether a signup has to name an e-mail address',
  }),
  AUTH_PAGES: OneOf(['on', 'off'], {
    default: 'on',
    description: 'Whether people sign in in the browser: the pages, OpenID Connect, and what links in mails open',
  }),
  AUTH_BROWSER_IDLE_TTL: DurationFrom('1s', '3650d', {
    default: '7d',
    description: 'How long a browser stays signed in that nobody uses',
  }),
  AUTH_BROWSER_MAX_TTL: DurationFrom('1s', '3650d', {
    default: '30d',
    description: 'How long a browser stays signed in, used or not',
  }),
  AUTH_THEME_DIR: Type.Optional(
    Type.String({ description: 'A directory with theme.css and logo.svg, for the pages: see docs/pages.md' }),
  ),
  AUTH_CIMD: SwitchOrHosts(validateMetadataHost, {
    default: 'off',
    expected: '"on", "off", or a comma-separated list of hosts, such as claude.ai, vscode.dev',
    description: 'Whether apps that nobody has registered may come by the URL of their metadata: on, off, or hosts',
  }),
  AUTH_PAGES_URL: Type.Optional(
    Type.String({
      pattern: '^[Hh][Tt][Tt][Pp][Ss]?://.',
      check: validateIssuer,
      expected: 'an http(s) URL without user name, query or fragment, such as https://app.example.com',
      description: 'What links in mails begin with, where the pages are your own; the issuer when not set',
    }),
  ),
  AUTH_TRUSTED_PROXIES: Type.Optional(
    ListOf(validateProxy, {
      expected: 'a comma-separated list of addresses and CIDR ranges, such as 10.0.0.0/8, ::1',
      description: 'Peers whose X-Forwarded-For is believed',
    }),
  ),
  AUTH_CORS_ORIGINS: Type.Optional(
    ListOf(validateOrigin, {
      expected:
        'a comma-separated list of origins as browsers send them, ' +
        'such as https://app.example.com, http://localhost:5173',
      description:
        'Origins that browsers may call from; also https://*.example.com, and of apps, such as capacitor://localhost',
    }),
  ),
  AUTH_WEBAUTHN_ORIGINS: Type.Optional(
    ListOf(validatePasskeyOrigin, {
      expected:
        'a comma-separated list of origins, such as https://app.example.com, http://localhost:5173, ' +
        'android:apk-key-hash:…',
      description: 'Origins of the web pages and Android apps that use passkeys; that of the issuer when not set',
    }),
  ),
  AUTH_CLIENTS_FILE: Type.Optional(
    Type.String({ description: 'Clients declared in JSON, applied at each start: see docs/clients.md' }),
  ),
  AUTH_AUDIT_RETENTION: DurationFrom('1d', '3650d', {
    default: '90d',
    description: 'How long the store keeps what happened: logins, failures, acts of administrators',
  }),
  AUTH_EXPLAIN_RETENTION: DurationFrom('1m', '30d', {
    default: '1h',
    description: 'How long it is kept why a request was refused, for latchkey explain',
  }),
  AUTH_WEBHOOKS_FILE: Type.Optional(
    Type.String({
      description: 'Endpoints that are told of events, in JSON, read at each start: see docs/webhooks.md',
    }),
  ),
  AUTH_FETCH_ALLOW: Type.Optional(
    ListOf(validateFetchAllow, {
      expected: 'a comma-separated list of host names, addresses and CIDR ranges, such as hooks.internal, 10.0.0.0/8',
      description:
        'Hosts that the service may call although they are private, also by http: for webhooks and logout tokens',
    }),
  ),
  AUTH_METRICS_PORT: Type.Optional(
    WholeNumber(0, 65_535, { description: 'Port of GET /metrics for Prometheus; off when not set' }),
  ),
  AUTH_SHUTDOWN_GRACE: DurationFrom('1s', '1d', {
    default: '10s',
    description: 'Longest time that requests in flight may take after SIGTERM',
  }),
  AUTH_KEEP_ALIVE: DurationFrom('1s', '1d', {
    default: '130s',
    description:
      'How long an idle connection is kept; longer than the proxy in front keeps it, ' +
      'which must be the first to close',
  }),
  AUTH_INSECURE: Type.Optional(OneOf(['1'], { description: 'Allows argon2 below the OWASP minimum; for tests' })),
})

/** The settings after their check: durations with their units, numbers as numbers. */
export type Settings = StaticDecode<typeof Settings>
