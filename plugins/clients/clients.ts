import { hash, randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Lru } from 'toad-cache'
import type { Caller } from '../../domain/caller.ts'
import {
  anyAppId,
  builtInFirstParty,
  type Client,
  type ClientChanges,
  type ClientDefinition,
  type ClientSecret,
  firstPartyId,
  isUrlId,
  wellFormedClientId,
} from '../../domain/client.ts'
import { validateClient } from '../../domain/client-definition.ts'
import { createAdmission, unregisteredClient } from '../../domain/client-metadata.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import { isFuture } from '../../domain/time.ts'
import { Refusal } from '../../errors.ts'
import type { ChangeName, MembersOf } from '../../events.ts'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'

declare module 'fastify' {
  interface FastifyInstance {
    clients: ReturnType<typeof createClients>
  }
}

const secretPrefix = 'lks_'
const secretBytes = 32
/**
 * How long a client is known without a look into the store. A change made here shows at once, one made elsewhere after
 * this and the look: within a second.
 */
const freshMs = 900

type By = Pick<Caller, 'log'>

/**
 * The SHA-256 of a secret is all that is kept of it: 256 random bits need no slow hash, for nobody can try them out.
 */
export const hashSecret = (secret: string): string => `sha256:${hash('sha256', secret, 'base64url')}`

/** Who may ask for tokens, RFC 6749 §2: found, made, changed, removed. */
function createClients({
  config,
  store,
  changes,
  events,
  revocations,
  now,
  uptimeMs,
}: Pick<FastifyInstance, 'config' | 'store' | 'changes' | 'events' | 'revocations' | 'now' | 'uptimeMs'>) {
  const registered = new Lru<{ reading: Promise<Client | undefined>; readAt: number }>(1_000)
  // Strangers can make those up, and push nobody else's out.
  const byUrl: typeof registered = new Lru(1_000)
  const knownLike = (id: string) => (isUrlId(id) ? byUrl : registered)
  const mayComeUnregistered = createAdmission(config)
  events.on('client', ({ client_id: id }, event) => {
    // Of a wrong secret the store knows nothing.
    if (event === 'client.refused' || id === undefined) return
    if (id === anyAppId) byUrl.clear()
    else knownLike(id).delete(id)
  })

  const stored = async (id: string): Promise<Client | undefined> =>
    wellFormedClientId.test(id) ? store.findClient(id) : undefined

  async function read(id: string): Promise<Client | undefined> {
    const client = await stored(id)
    if (client) return putRight(client)
    if (id === firstPartyId) return builtInFirstParty
    if (!mayComeUnregistered(id)) return undefined
    const template = await stored(anyAppId)
    return template?.disabledAt === undefined
      ? unregisteredClient(id, template, revocations.revokedGenerationOf(id))
      : undefined
  }

  /**
   * A secret that was replaced by a clock that was ahead would be good until that time: it has its overlap from now on.
   */
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
    const isRight = await changes.repair((store) => store.replaceClient(right))
    return isRight ? right : stored(client.id)
  }

  /**
   * Changes a client by compare-and-set on its generation, and again when another change came first.
   *
   * @param decide what it becomes, and whether its access tokens end
   */
  async function change<Name extends Extract<ChangeName, `client.${string}`>>(
    by: By,
    event: Name,
    members: MembersOf<Name>,
    decide: (client: Client) => { next: Client; revoke: boolean },
  ): Promise<Client> {
    const { client_id: id } = members
    return retryUntilApplied(`The client ${id}`, async () => {
      const client = await stored(id)
      if (!client) throw unknownClient(id)
      const { next, revoke } = decide(client)
      const changed = { ...next, generation: client.generation + 1 }
      const isChanged = await changes.make(by, event, members, (store, end) =>
        store.replaceClient(changed, revoke ? end() : undefined),
      )
      return isChanged && changed
    })
  }

  /**
   * When a new client begins: ahead of all that is revoked of a former one with its id, whatever the clock says.
   *
   * @returns milliseconds since the epoch
   */
  async function birthOf(id: string): Promise<number> {
    await revocations.catchUp()
    return Math.max(now(), revocations.revokedGenerationOf(id))
  }

  /** @throws {Refusal} 400 for a member that is not acceptable */
  function refuseWrong(definition: ClientDefinition): void {
    const wrong = validateClient(definition, config.AUTH_FETCH_ALLOW)
    if (wrong)
      throw new Refusal('invalid_request', { detail: `${wrong.pointer.slice(1)} ${wrong.detail}`, errors: [wrong] })
  }

  return {
    /**
     * Finds a client by its id. Of an app that nobody has registered it has neither name nor redirect_uris, for they need
     * its metadata: `plugins/clients/client-metadata.ts`.
     *
     * @param readSince on the clock of `uptimeMs`: what was read before that will not do
     * @returns the client of an id, disabled ones too; undefined when there is none
     */
    async find(id: string, readSince = uptimeMs() - freshMs): Promise<Client | undefined> {
      const known = knownLike(id)
      const entry = known.get(id)
      if (entry && entry.readAt >= readSince) return entry.reading
      const reading = read(id)
      // One look for all who come meanwhile. Ids that nobody has are not remembered: strangers could fill the memory
      // with them.
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
    list: (page: { after?: string; limit: number }) => store.listClients(page),

    /** A client that somebody made, as it is in the store now, disabled ones too. @throws {Refusal} 404 */
    async get(id: string): Promise<Client> {
      const client = await stored(id)
      if (!client) throw unknownClient(id)
      return client
    },

    birthOf,

    /**
     * Makes a client.
     *
     * @returns it, and the secret of a confidential one: shown now and never again
     * @throws {Refusal} 400 for a member that is not acceptable, 409 for an id that is taken
     */
    async create(by: By, definition: ClientDefinition): Promise<{ client: Client; secret?: string }> {
      refuseWrong(definition)
      const secret = definition.type === 'confidential' ? newSecret() : undefined
      const createdAt = await birthOf(definition.id)
      const client: Client = {
        ...definition,
        secrets: secret === undefined ? [] : [{ hash: hashSecret(secret), createdAt: now() }],
        createdAt,
        isDeclared: false,
        generation: createdAt,
      }
      const made = { client_id: client.id }
      const isMade = await changes.make(by, 'client.created', made, (store) => store.createClient(client))
      if (!isMade) throw new Refusal('client_id_taken')
      return { client, ...(secret !== undefined && { secret }) }
    },

    /**
     * Changes what an administrator decides of a client. Its sessions have what it may still have from their next refresh
     * on; its access tokens stay as they are.
     *
     * @throws {Refusal} 404; 400 for a member that is not acceptable, or a client that is declared
     */
    edit: (by: By, id: string, changed: ClientChanges): Promise<Client> =>
      change(by, 'client.changed', { client_id: id }, (client) => {
        if (client.isDeclared)
          throw new Refusal('invalid_request', { detail: 'The client is declared: change it in AUTH_CLIENTS_FILE' })
        const next: Client = omitUndefined({ ...client, ...changed })
        refuseWrong(next)
        return { next, revoke: false }
      }),

    /**
     * Makes another secret.
     *
     * @param overlapSeconds how long the former one is still taken; 0 when it has leaked: then the access tokens of the
     * client are refused too
     * @returns the new secret: shown now and never again
     * @throws {Refusal} 404; 400 for a client that has none, or whose secret is declared
     */
    async rotateSecret(by: By, id: string, overlapSeconds: number): Promise<string> {
      const secret = newSecret()
      const rotated = { client_id: id, overlap_seconds: overlapSeconds }
      await change(by, 'client.secret_rotated', rotated, (client) => {
        if (client.type === 'public') throw new Refusal('invalid_request', { detail: 'A public client has no secret' })
        if (client.isDeclared)
          throw new Refusal('invalid_request', { detail: 'The secret of this client is in AUTH_CLIENTS_FILE' })
        const [before] = client.secrets
        const secrets: ClientSecret[] = [{ hash: hashSecret(secret), createdAt: now() }]
        if (before && overlapSeconds > 0) secrets.push({ ...before, expiresAt: now() + overlapSeconds * 1000 })
        return { next: { ...client, secrets }, revoke: overlapSeconds === 0 }
      })
      return secret
    },

    /**
     * Refuses a client, and its access tokens, from now on; also those of users who came by it. @throws {Refusal} 404
     */
    disable: (by: By, id: string): Promise<Client> =>
      change(by, 'client.disabled', { client_id: id }, (client) => ({
        next: { ...client, disabledAt: now() },
        revoke: true,
      })),

    /** @throws {Refusal} 404 */
    enable: (by: By, id: string): Promise<Client> =>
      change(by, 'client.enabled', { client_id: id }, ({ disabledAt: _, ...client }) => ({
        next: client,
        revoke: false,
      })),

    /**
     * Removes a client, and refuses its access tokens. Under the name of `first-party` the built-in one takes its place
     * again.
     *
     * @throws {Refusal} 404
     */
    async remove(by: By, id: string): Promise<void> {
      const removed = { client_id: id }
      if (id === firstPartyId) {
        // In its row, so that the generation goes on: tokens of one that began anew would fall under the revocation of
        // these.
        await change(by, 'client.deleted', removed, () => ({ next: builtInFirstParty, revoke: true }))
        return
      }
      const isRemoved =
        wellFormedClientId.test(id) &&
        (await changes.make(by, 'client.deleted', removed, (store, end) => store.deleteClient(id, end())))
      if (!isRemoved) throw unknownClient(id)
    },
  }
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
  { name: 'clients', dependencies: ['store', 'events', 'revocations', 'changes'] },
)
