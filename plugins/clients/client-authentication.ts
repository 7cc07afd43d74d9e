import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Lru } from 'toad-cache'
import type { Caller } from '../../domain/caller.ts'
import { type Check, checked } from '../../domain/checks.ts'
import { type Client, firstPartyId, isUnregistered } from '../../domain/client.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import { Refusal } from '../../errors.ts'
import { basicChallenge, type ClientCredentials, formReadings, parseBasic } from './client-credentials.ts'
import { createClientSecrets } from './client-secrets.ts'

declare module 'fastify' {
  interface FastifyInstance {
    clientAuthentication: ReturnType<typeof createClientAuthentication>
  }
}

/** Where a client may give its credentials besides the header. */
interface ClientForm {
  client_id?: string
  client_secret?: string
}

/** After a right secret from an address, the failures of that client and address are not read again for this long. */
const trustedMs = 1_000
const maxTrusted = 1_000

/**
 * Finds out which client makes a request, RFC 6749 §2.3: `client_secret_basic`, `client_secret_post`, or `none` for
 * public ones.
 */
function createClientAuthentication({
  clients,
  secrets,
  throttle,
  events,
  now,
  uptimeMs,
}: Pick<FastifyInstance, 'clients' | 'secrets' | 'throttle' | 'events' | 'now' | 'uptimeMs'>) {
  const { isSecretOf, isGuessable, hashDeclared } = createClientSecrets({ secrets, now })
  /** by client id and address: when the secret was right */
  const trusted = new Lru<number>(maxTrusted)

  /** The client of the first id that exists; of the first id when none does. */
  async function findFirst([id = '', ...others]: string[]): Promise<{ id: string; client: Client | undefined }> {
    const client = await clients.find(id)
    if (client || others.length === 0) return { id, client }
    const other = await findFirst(others)
    return other.client ? other : { id, client }
  }

  async function authenticate(
    caller: Caller,
    { ids, secrets }: ClientCredentials,
    challenge: { headers?: Record<string, string> },
  ): Promise<Client> {
    const { address } = caller
    const startedAt = uptimeMs()
    const { id, client } = await findFirst(ids)
    // An app that nobody has registered has no secret, and its id can be made up: what is counted for those is bounded.
    const known = client && !isUnregistered(client) ? client : undefined
    const trust = `${id} ${address}`
    const isRightFor = (client: Client | undefined) =>
      secrets.map((secret) => isSecretOf(client, secret)).includes(true)
    // Waits are for guessers. A client with a generated secret is none, and must not wait for a neighbour with an old
    // secret.
    const isTrusted =
      known && (!isGuessable(known) || startedAt - (trusted.get(trust) ?? Number.NEGATIVE_INFINITY) < trustedMs)
    if (isTrusted && isRightFor(known)) return known

    // One look into the store, as for an unknown client: another replica may have just made the secret. For a right
    // secret too, or its answer would overtake the wrong secrets that came with it, before they are counted.
    const find = () => known && clients.find(id, startedAt)
    const guess = await throttle.guard(caller, 'client', id, find, (client, judge) => judge(() => isRightFor(client)))
    if (guess.isRight) {
      trusted.set(trust, uptimeMs())
      return guess.found
    }
    trusted.delete(trust)
    const { found } = guess
    const reason = !found ? 'unknown client' : found.disabledAt !== undefined ? 'disabled client' : 'wrong secret'
    events.emit(caller, 'client.refused', omitUndefined({ reason, client_id: found && id, address }))
    const checks = [seenOf(reason, found), ...guess.checks]
    throw new Refusal('invalid_client', { reason, checks, ...challenge })
  }

  /**
   * The client that makes a request; `first-party` when none is named.
   *
   * @param authorization the header
   * @throws {Refusal} 401 `invalid_client` for a client that is unknown, disabled or not authenticated; 400
   * `invalid_request` for credentials in two places; 429 `too_many_failures` while a wait is on
   */
  async function identify(caller: Caller, authorization: string | undefined, form: ClientForm): Promise<Client> {
    const basic = authorization === undefined ? undefined : parseBasic(authorization)
    const formIds = form.client_id ? formReadings(form.client_id) : []
    if (basic && (form.client_secret || (form.client_id && !formIds.some((id) => basic.ids.includes(id))))) {
      throw new Refusal('invalid_request', { detail: 'Client credentials must be in one place only' })
    }
    const ids = basic?.ids ?? (form.client_id ? formIds : [firstPartyId])
    const secrets = basic?.secrets ?? formReadings(form.client_secret ?? '')
    const challenge = basic ? { headers: basicChallenge } : {}
    // RFC 6749 §2.3.1 lets an empty secret be left out.
    if (secrets[0]) return authenticate(caller, { ids, secrets }, challenge)
    const { client } = await findFirst(ids)
    if (client?.type === 'public' && client.disabledAt === undefined) return client
    const reason = !client
      ? 'unknown client'
      : client.type === 'public'
        ? 'disabled client'
        : 'no secret from a confidential client'
    throw new Refusal('invalid_client', { reason, checks: [seenOf(reason, client)], ...challenge })
  }

  /**
   * The confidential client that makes a request, which needs the right to see tokens of others (RFC 7662 §2.1).
   *
   * @throws {Refusal} as `identify`; 403 `unauthorized_client` without the right
   */
  async function identifyIntrospector(
    caller: Caller,
    authorization: string | undefined,
    form: ClientForm,
  ): Promise<Client> {
    const refused = (reason: string) => new Refusal('invalid_client', { reason, headers: basicChallenge })
    if (!form.client_id && !authorization) throw refused('no credentials')
    const client = await identify(caller, authorization, form)
    if (client.type === 'public') throw refused('a public client')
    if (client.introspect === 'none') {
      const checks = [checked('client_introspect', `none for ${client.id}`, 'own or all')]
      throw new Refusal('may_not_introspect', { checks })
    }
    return client
  }

  return { identify, identifyIntrospector, hashDeclared, isSecretOf }
}

/** What was seen of a client. An id that no client has is not repeated: it may be a secret in the wrong place. */
const seenOf = (reason: string, client: Client | undefined): Check =>
  checked('client', client ? `${reason}: ${client.id}` : reason)

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('clientAuthentication', createClientAuthentication(app))
  },
  { name: 'client-authentication', dependencies: ['clients', 'secrets', 'throttle', 'events'] },
)
