import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { Caller } from '../../domain/caller.ts'
import type { ClientDefinition } from '../../domain/client.ts'
import { StoreUnavailable } from '../../stores/store.ts'
import { json, newDir, postForm, storeOf } from './helper.ts'

export interface Credentials {
  id: string
  secret: string
}

/** A client as AUTH_CLIENTS_FILE declares it. */
export type Declaration = Record<string, unknown>

/** `application/x-www-form-urlencoded`, as RFC 6749 §2.3.1 wants the id and the secret before base64. */
export const formEncode = (text: string) => encodeURIComponent(text).replaceAll('%20', '+')

/** `client_secret_basic`, to be put with a request. */
export const basic = ({ id, secret }: Credentials) => rawBasic(`${formEncode(id)}:${formEncode(secret)}`)

/** The Basic scheme with a text as it is. */
export const rawBasic = (text: string | Buffer) => ({
  headers: { authorization: `Basic ${Buffer.from(text).toString('base64')}` },
})

/** `client_secret_post`, to be put with the form. */
export const inForm = ({ id, secret }: Credentials) => ({ client_id: id, client_secret: secret })

/** Makes a confidential client with the grant client_credentials, or as said. */
export async function makeClient(
  app: FastifyInstance,
  definition: Partial<ClientDefinition> & { id: string },
): Promise<Credentials> {
  const { client, secret = '' } = await app.clients.create(app, {
    type: 'confidential',
    grants: ['client_credentials'],
    scopes: [],
    audience: [],
    introspect: 'none',
    ...definition,
  })
  return { id: client.id, secret }
}

/**
 * The same with a secret that somebody else chose, as AUTH_CLIENTS_FILE has them: it may be one that can be guessed.
 */
export async function makeClientWithChosenSecret(
  app: FastifyInstance,
  definition: Partial<ClientDefinition> & { id: string },
) {
  const { id } = await makeClient(app, definition)
  const client = await app.clients.get(id)
  const secrets = [{ hash: app.clientAuthentication.hashDeclared('correct horse'), createdAt: client.createdAt }]
  await storeOf(app).replaceClient({ ...client, secrets, generation: client.generation + 1 })
  return { id, secret: 'correct horse' }
}

export function clientCredentials(app: FastifyInstance, client: Credentials, fields: Record<string, string> = {}) {
  return postForm(app, '/token', { grant_type: 'client_credentials', ...fields }, basic(client))
}

/** @returns the access token of a client, by client_credentials */
export async function tokenOf(
  app: FastifyInstance,
  client: Credentials,
  fields?: Record<string, string>,
): Promise<string> {
  const response = await clientCredentials(app, client, fields)
  if (response.statusCode !== 200) throw new Error(`no token: ${response.body}`)
  return json(response).access_token
}

/** Asks about a token. */
export function introspect(
  app: FastifyInstance,
  asks: Credentials,
  token: string,
  fields: Record<string, string> = {},
) {
  return postForm(app, '/introspect', { token, ...fields }, basic(asks))
}

/** Writes AUTH_CLIENTS_FILE. @returns its path */
export async function writeClients(t: Test, clients: unknown): Promise<string> {
  const path = join(await newDir(t), 'clients.json')
  await writeFile(path, typeof clients === 'string' ? clients : JSON.stringify(clients))
  return path
}

/**
 * Lets the methods of the store that a name matches reject, as they do when the database does not answer. @returns what
 * ends it
 */
export function failStore(app: FastifyInstance, names = /./): () => void {
  const originals: Record<string, unknown> = {}
  for (const [name, method] of Object.entries(app.store)) {
    if (typeof method !== 'function' || name === 'close' || !names.test(name)) continue
    originals[name] = method
    Object.assign(app.store, { [name]: () => Promise.reject(new StoreUnavailable(new Error('down'))) })
  }
  return () => void Object.assign(app.store, originals)
}

/** @returns the names of the store's methods in the order in which requests call them from now on */
export function watchStore(app: FastifyInstance, names: RegExp): string[] {
  const calls: string[] = []
  for (const [name, method] of Object.entries(storeOf(app))) {
    if (typeof method !== 'function' || !names.test(name)) continue
    const watched = (...args: unknown[]) => {
      if (!isOfAudit(args)) calls.push(name)
      return method(...args)
    }
    Object.assign(app.store, { [name]: watched })
  }
  return calls
}

/** Whether a call bounds the rows of failed logins, some time after the request whose row it is. */
const isOfAudit = ([keys]: unknown[]) => Array.isArray(keys) && keys[0]?.key === 'audit'

/** The error of an OAuth endpoint, by its code and status. */
export function isOAuthError(
  t: Test,
  response: LightMyRequestResponse,
  status: number,
  error: string,
  what = error,
): void {
  t.same([response.statusCode, json(response).error], [status, error], what)
}

/** A caller of the domain, without a request. */
export const callerFrom = (address: string, log: Caller['log']): Caller => ({
  log,
  address,
  userAgent: '',
  requestId: 'req-0',
  by: undefined,
  gone: new AbortController().signal,
})

/** From an address. */
export const from = (remoteAddress: string): InjectOptions => ({ remoteAddress })

/** Waits until something holds; the test ends by its own time limit when it never does. */
export async function until(holds: () => boolean | Promise<boolean>, everyMs = 20): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, everyMs))
}

/** What makes a JSON object one that two parsers read in two ways. */
export const ambiguities: [what: string, spoil: (json: string) => Buffer][] = [
  ['a byte that is no UTF-8', (json) => Buffer.from(json.replace('{', '{"x":"\xff",'), 'latin1')],
  ['an overlong character', (json) => Buffer.from(json.replace('{', '{"x":"\xc0\xaf",'), 'latin1')],
  ['an encoded surrogate', (json) => Buffer.from(json.replace('{', '{"x":"\xed\xa0\x80",'), 'latin1')],
  ['half a character', (json) => Buffer.from(json.replace('{', '{"x":"\xe2\x82",'), 'latin1')],
  ['a byte order mark', (json) => Buffer.from(`\ufeff${json}`)],
  ['UTF-16', (json) => Buffer.from(json, 'utf16le')],
  ['its first member again', (json) => Buffer.from(json.replace(/{("\w+":[^,]+),/, '{$1,$1,'))],
  ['another value first', (json) => Buffer.from(json.replace(/{"(\w+)":/, '{"$1":"x","$1":'))],
  ['a member again, in escapes', (json) => Buffer.from(`${json.slice(0, -1)},"a":1,"\\u0061":2}`)],
  ['a member again inside', (json) => Buffer.from(`${json.slice(0, -1)},"a":[{"b":{"c":1,"d":"}","c":1}}]}`)],
]
