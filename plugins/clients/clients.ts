import { hash, randomBytes } from 'node:crypto'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Lru } from 'toad-cache'
import type { Client, ClientSecret } from '../../domain/client.ts'
import { isUuid } from '../../domain/ids.ts'
import { isScopeName } from '../../domain/scope.ts'
import { isFuture } from '../../domain/time.ts'
import { Refusal } from '../../errors.ts'

declare module 'fastify' {
  interface FastifyInstance {
    clients: ReturnType<typeof createClients>
  }
}

export type { Client } from '../../domain/client.ts'

/** What whoever makes a client decides. */
export type ClientDefinition = Pick<Client, 'id' | 'type' | 'grants' | 'scopes' | 'audience' | 'introspect'>

/** The client that is meant when a request names none. */
export const firstPartyId = 'first-party'
/** Opens `/admin/`: asked for by name, and given to users only who have the role of the same name. */
export const adminScope = 'admin'

/** As long as nobody has made one of the name. */
const builtInFirstParty: Client = {
  id: firstPartyId,
  type: 'public',
  grants: ['password', 'refresh_token'],
  scopes: [adminScope],
  audience: [],
  introspect: 'none',
  secrets: [],
  createdAt: 0,
  isDeclared: false,
  generation: 0,
}

const secretPrefix = 'lks_'
const secretBytes = 32
/** RFC 6749 appendix A.1 without the space; it goes into header fields and keys of the store. */
const wellFormedId = /^[\x21-\x7e]{1,128}$/
/** For so long a client is known without a look into the store. A change made here shows at once, one made elsewhere after this. */
const freshMs = 1_000
const triesAtMost = 10

/** The SHA-256 of a secret is all that is kept of it: 256 random bits need no slow hash, for nobody can try them out. */
export const hashSecret = (secret: string): string => `sha256:${hash('sha256', secret, 'base64url')}`

/** Who may ask for tokens, RFC 6749 §2: found, made, changed, removed. */
function createClients({ config, store, accessTokens, revocations, now, uptimeMs }: FastifyInstance) {
  const known = new Lru<{ reading: Promise<Client | undefined>; readAt: number }>(1_000)
  const end = () => ({ now: now(), expiresAt: accessTokens.forgottenAt() })

  const stored = async (id: string): Promise<Client | undefined> =>
    wellFormedId.test(id) ? store.findClient(id) : undefined

  async function read(id: string): Promise<Client | undefined> {
    const client = await stored(id)
    if (client) return putRight(client)
    return id === firstPartyId ? builtInFirstParty : undefined
  }

  /** A secret that was replaced by a clock that was ahead would be good until that time: it has its overlap from now on. */
  async function putRight(client: Client): Promise<Client | undefined> {
    const [newest] = client.secrets
    if (!newest || !isFuture(newest.createdAt, now())) return client
    const aheadMs = newest.createdAt - now()
    const secrets = client.secrets.map(({ hash, createdAt, expiresAt }) => ({
      hash,
      createdAt: Math.min(createdAt, now()),
      ...(expiresAt !== undefined && { expiresAt: expiresAt - aheadMs }),
    }))
    const right = { ...client, secrets, generation: client.generation + 1 }
    return (await store.replaceClient(right)) ? right : stored(client.id)
  }

  /** Reads, decides and writes, again when somebody else was faster: the store takes a change for the generation that it was made for only. */
  async function change(id: string, decide: (client: Client) => { next: Client; revoke: boolean }): Promise<Client> {
    for (let tries = 1; tries <= triesAtMost; tries++) {
      const client = await stored(id)
      if (!client) throw unknownClient(id)
      const { next, revoke } = decide(client)
      const changed = { ...next, generation: client.generation + 1 }
      if (!(await store.replaceClient(changed, revoke ? end() : undefined))) continue
      known.delete(id)
      if (revoke) await revocations.pull()
      return changed
    }
    throw new Error(`The client ${id} was changed by others all the time`)
  }

  return {
    /**
     * @param readSince on the clock of `uptimeMs`: what was read before that will not do
     * @returns the client of an id, disabled ones too; undefined when there is none
     */
    async find(id: string, readSince = uptimeMs() - freshMs): Promise<Client | undefined> {
      const entry = known.get(id)
      if (entry && entry.readAt >= readSince) return entry.reading
      const reading = read(id)
      // One look for all who come meanwhile. Ids that nobody has are not remembered: strangers could fill the memory with them.
      known.set(id, { reading, readAt: uptimeMs() })
      try {
        const client = await reading
        if (!client) known.delete(id)
        return client
      } catch (error) {
        known.delete(id)
        throw error
      }
    },

    /** Clients in the order of their ids, disabled ones too; not `first-party` while it is the built-in one. */
    list: (page: { after?: string; limit: number }) => store.exportRows('clients', page),

    /** A client that somebody made, as it is in the store now, disabled ones too. @throws {Refusal} 404 */
    async get(id: string): Promise<Client> {
      const client = await stored(id)
      if (!client) throw unknownClient(id)
      return client
    },

    /**
     * The time that a new client begins at: ahead of all that is revoked of one that had its id before, whatever the clock says.
     *
     * @returns milliseconds since the epoch
     */
    async birthOf(id: string): Promise<number> {
      await revocations.catchUp()
      return Math.max(now(), revocations.revokedGenerationOf(id))
    },

    /**
     * Makes a client.
     *
     * @returns it, and the secret of a confidential one: shown now and never again
     * @throws {Refusal} 400 for an id that is not acceptable, 409 for one that is taken
     */
    async create(log: FastifyBaseLogger, definition: ClientDefinition): Promise<{ client: Client; secret?: string }> {
      const wrong = whatIsWrong(definition)
      if (wrong)
        throw new Refusal('invalid_request', { detail: `${wrong.pointer.slice(1)} ${wrong.detail}`, errors: [wrong] })
      const secret = definition.type === 'confidential' ? newSecret() : undefined
      const createdAt = await this.birthOf(definition.id)
      const client: Client = {
        ...definition,
        secrets: secret === undefined ? [] : [{ hash: hashSecret(secret), createdAt: now() }],
        createdAt,
        isDeclared: false,
        generation: createdAt,
      }
      if (!(await store.createClient(client))) throw new Refusal('client_id_taken')
      known.delete(client.id)
      log.info({ event: 'client.created', client_id: client.id }, 'a client was made')
      return { client, ...(secret !== undefined && { secret }) }
    },

    /**
     * Makes another secret.
     *
     * @param overlapSeconds how long the one before is still taken; 0 when it has leaked: then the access tokens of the client are refused too
     * @returns the new secret: shown now and never again
     * @throws {Refusal} 404; 400 for a client that has none, or whose secret is declared
     */
    async rotateSecret(log: FastifyBaseLogger, id: string, overlapSeconds: number): Promise<string> {
      const secret = newSecret()
      await change(id, (client) => {
        if (client.type === 'public') throw new Refusal('invalid_request', { detail: 'A public client has no secret' })
        if (client.isDeclared)
          throw new Refusal('invalid_request', { detail: 'The secret of this client is in AUTH_CLIENTS_FILE' })
        const [before] = client.secrets
        const secrets: ClientSecret[] = [{ hash: hashSecret(secret), createdAt: now() }]
        if (before && overlapSeconds > 0) secrets.push({ ...before, expiresAt: now() + overlapSeconds * 1000 })
        return { next: { ...client, secrets }, revoke: overlapSeconds === 0 }
      })
      log.info(
        { event: 'client.secret_rotated', client_id: id, overlap_seconds: overlapSeconds },
        'a client got a new secret',
      )
      return secret
    },

    /** Refuses a client, and its access tokens, from now on; also those of users who came by it. @throws {Refusal} 404 */
    async disable(log: FastifyBaseLogger, id: string): Promise<Client> {
      const client = await change(id, (client) => ({ next: { ...client, disabledAt: now() }, revoke: true }))
      log.info({ event: 'client.disabled', client_id: id }, 'a client was disabled')
      return client
    },

    /** @throws {Refusal} 404 */
    async enable(log: FastifyBaseLogger, id: string): Promise<Client> {
      const client = await change(id, ({ disabledAt: _, ...client }) => ({ next: client, revoke: false }))
      log.info({ event: 'client.enabled', client_id: id }, 'a client was enabled')
      return client
    },

    /**
     * Removes a client, and refuses its access tokens. Under the name of `first-party` the built-in one takes its place again.
     *
     * @throws {Refusal} 404
     */
    async remove(log: FastifyBaseLogger, id: string): Promise<void> {
      if (id === firstPartyId) {
        // In its row, so that the generation goes on: tokens of one that began anew would fall under the revocation of these.
        await change(id, () => ({ next: builtInFirstParty, revoke: true }))
        log.info({ event: 'client.deleted', client_id: id }, 'first-party is the built-in client again')
        return
      }
      if (!wellFormedId.test(id) || !(await store.deleteClient(id, end()))) throw unknownClient(id)
      known.delete(id)
      await revocations.pull()
      log.info({ event: 'client.deleted', client_id: id }, 'a client was deleted')
    },

    /**
     * The scope of a grant.
     *
     * @param requested space-separated, RFC 6749 §3.3; undefined or empty for all of the client's, but for `admin` where a user is behind it
     * @throws {Refusal} 400 `invalid_scope`
     */
    grantScope(
      { scopes, type }: Client,
      requested: string | undefined,
      grant: 'password' | 'client_credentials',
    ): string[] {
      if (!requested) return grant === 'client_credentials' ? scopes : scopes.filter((name) => name !== adminScope)
      const names = parseScope(requested)
      if (names.every((name) => scopes.includes(name))) return names
      throw new Refusal('invalid_scope', {
        detail: 'The scope is not one that this client may ask for',
        reason: `${type} client`,
      })
    },

    /** What the tokens of a client are for when it does not say. */
    audience: ({ audience }: Client): string[] => (audience.length > 0 ? audience : [config.AUTH_AUDIENCE]),

    /**
     * The `aud` of a token.
     *
     * @param resource RFC 8707 §2; undefined or empty for all of the client's
     * @throws {Refusal} 400 `invalid_target` for one that the client may not ask for
     */
    grantAudience(client: Client, resource: string | undefined): string | string[] {
      const audience = this.audience(client)
      if (resource && !audience.includes(resource)) throw new Refusal('invalid_target')
      return resource || (audience.length === 1 ? (audience[0] as string) : audience)
    },
  }
}

/** @returns what is not acceptable in a definition; undefined when all is */
export function whatIsWrong({
  id,
  type,
  grants,
  introspect,
}: ClientDefinition): { pointer: string; detail: string } | undefined {
  if (!wellFormedId.test(id)) return { pointer: '/client_id', detail: 'must be 1 to 128 visible ASCII characters' }
  if (id === '.' || id === '..') return { pointer: '/client_id', detail: 'must not be . or .., which no URL can name' }
  // The `sub` of a token must not be taken for the other kind.
  if (isUuid(id.toLowerCase())) return { pointer: '/client_id', detail: 'must not look like the id of a user' }
  if (id === firstPartyId && type !== 'public') return { pointer: '/type', detail: 'must be public for first-party' }
  if (type === 'public' && grants.includes('client_credentials')) {
    return { pointer: '/grants', detail: 'must not have client_credentials for a public client, which has no secret' }
  }
  if (type === 'public' && introspect !== 'none')
    return { pointer: '/introspect', detail: 'is for confidential clients only' }
  return undefined
}

/** Scope names, RFC 6749 §3.3. @throws {Refusal} 400 `invalid_scope` */
export function parseScope(scope: string): string[] {
  const names = scope.split(' ')
  if (names.every(isScopeName)) return [...new Set(names)]
  throw new Refusal('invalid_scope', { detail: 'The scope is malformed' })
}

const newSecret = () => secretPrefix + randomBytes(secretBytes).toString('base64url')
const unknownClient = (id: string) => {
  const builtIn = id === firstPartyId ? ': first-party is built in until somebody makes one of the name' : ''
  return new Refusal('not_found', { detail: `There is no such client${builtIn}` })
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('clients', createClients(app))
  },
  { name: 'clients', dependencies: ['store', 'access-tokens', 'revocations'] },
)
