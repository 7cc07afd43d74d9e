import { timingSafeEqual } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Lru } from 'toad-cache'
import { Refusal } from '../../errors.ts'
import { type Client, firstPartyId, hashSecret } from './clients.ts'

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

/** A secret that somebody else chose is kept under a MAC, one that was made here as a plain hash. */
const isChosen = (hash: string) => hash.startsWith('hmac:')

const basicChallenge = { 'www-authenticate': 'Basic realm="latchkey", charset="UTF-8"' }
/** Whoever has just come with the right secret from an address is not looked up in the counts of failures again for so long. */
const trustedMs = 1_000

/**
 * Finds out which client makes a request, RFC 6749 §2.3: `client_secret_basic`, `client_secret_post`, or `none` for public ones.
 */
function createClientAuthentication({ clients, secrets, throttle, now, uptimeMs }: FastifyInstance) {
  const declared = secrets.mac('client secret')
  const trusted = new Lru<number>(1_000)

  /** Every secret is compared in constant time; nothing is known of those that are not kept as the SHA-256 of the text. */
  function isSecretOf(client: Client | undefined, secret: string): boolean {
    const hash = Buffer.from(hashSecret(secret))
    let isRight = false
    for (const { hash: kept, expiresAt = Number.POSITIVE_INFINITY } of client?.secrets ?? []) {
      if (now() >= expiresAt) continue
      isRight ||= isChosen(kept)
        ? declared.verify(Buffer.from(secret), Buffer.from(kept.slice(5), 'base64url'))
        : kept.length === hash.length && timingSafeEqual(Buffer.from(kept), hash)
    }
    return isRight && client?.disabledAt === undefined
  }

  /** Of the secrets of a client that were made here, none can be guessed. */
  const isGuessable = (client: Client) => client.secrets.some(({ hash }) => isChosen(hash))

  /** The client of the first id that somebody has. */
  async function findAny([id = '', ...others]: string[]): Promise<{ id: string; client: Client | undefined }> {
    const client = await clients.find(id)
    if (client || others.length === 0) return { id, client }
    const other = await findAny(others)
    return other.client ? other : { id, client }
  }

  async function authenticated(
    request: FastifyRequest,
    { ids, secrets }: Readings,
    challenge: object,
  ): Promise<Client> {
    const { address } = request
    const startedAt = uptimeMs()
    const { id, client: known } = await findAny(ids)
    const trust = `${id} ${address}`
    const isRightFor = (client: Client | undefined) =>
      secrets.map((secret) => isSecretOf(client, secret)).includes(true)
    // Waits are for guessers. Who has 256 bits right is none, and must not wait for what a neighbour with an old secret does.
    const isTrusted =
      known && (!isGuessable(known) || startedAt - (trusted.get(trust) ?? Number.NEGATIVE_INFINITY) < trustedMs)
    if (isTrusted && isRightFor(known)) return known

    // It may have got its secret on another replica a moment ago. One look into the store in all, as for a client that nobody has;
    // for a right secret too, or it would overtake the wrong ones that came with it, and be told before they are counted.
    const find = () => known && clients.find(id, startedAt)
    const { found, isRight } = await throttle.guard(request, 'client', id, find, (client, judge) =>
      judge(() => isRightFor(client)),
    )
    if (found && isRight) {
      trusted.set(trust, uptimeMs())
      return found
    }
    trusted.delete(trust)
    const reason = !found ? 'unknown client' : found.disabledAt !== undefined ? 'disabled client' : 'wrong secret'
    request.log.warn(
      { event: 'client.refused', reason, ...(found && { client_id: id }), address },
      'a client could not authenticate',
    )
    throw new Refusal('invalid_client', { reason, ...challenge })
  }

  return {
    /**
     * The client that makes a request; `first-party` when none is named.
     *
     * @throws {Refusal} 401 `invalid_client` for one that is unknown, disabled or not who it says; 400 `invalid_request` for credentials
     * in two places; 429 `too_many_failures` while a wait is on
     */
    async identify(request: FastifyRequest, form: ClientForm): Promise<Client> {
      const { authorization } = request.headers
      const basic = authorization === undefined ? undefined : parseBasic(authorization)
      const formIds = form.client_id ? formReadings(form.client_id) : []
      if (basic && (form.client_secret || (form.client_id && !formIds.some((id) => basic.ids.includes(id))))) {
        throw new Refusal('invalid_request', { detail: 'Client credentials must be in one place only' })
      }
      const ids = basic?.ids ?? (form.client_id ? formIds : [firstPartyId])
      const secrets = basic?.secrets ?? formReadings(form.client_secret ?? '')
      const challenge = basic ? { headers: basicChallenge } : {}
      // RFC 6749 §2.3.1 lets an empty secret be left out.
      if (secrets[0]) return authenticated(request, { ids, secrets }, challenge)
      const { client } = await findAny(ids)
      if (client?.type === 'public' && client.disabledAt === undefined) return client
      const reason = !client
        ? 'unknown client'
        : client.type === 'public'
          ? 'disabled client'
          : 'no secret from a confidential client'
      throw new Refusal('invalid_client', { reason, ...challenge })
    },

    /**
     * The confidential client that makes a request, which has to have the right to see tokens of others (RFC 7662 §2.1).
     *
     * @throws {Refusal} as `identify`; 403 `unauthorized_client` without the right
     */
    async introspector(request: FastifyRequest, form: ClientForm): Promise<Client> {
      const isAnonymous = !form.client_id && !request.headers.authorization
      if (isAnonymous) throw new Refusal('invalid_client', { reason: 'no credentials', headers: basicChallenge })
      const client = await this.identify(request, form)
      if (client.type === 'public')
        throw new Refusal('invalid_client', { reason: 'a public client', headers: basicChallenge })
      if (client.introspect === 'none') throw new Refusal('may_not_introspect')
      return client
    },

    /** What the store keeps of a secret that somebody else chose: without AUTH_SECRET even a weak one cannot be tried out. */
    hashDeclared: (secret: string): string => `hmac:${declared.sign(Buffer.from(secret)).toString('base64url')}`,
    isSecretOf,
  }
}

/**
 * What an id and a secret may have been meant as: one text each, or two, as many programs send them without the encoding that is
 * due. Each of two is compared, and both together are one guess.
 */
interface Readings {
  ids: string[]
  secrets: string[]
}

/**
 * `client_secret_basic`: base64 of the form-encoded id and secret, RFC 6749 §2.3.1, and if that fits nobody, of both as they are.
 * Other schemes are no client's credentials, nor are an empty id with an empty secret, which the login form of Swagger UI sends when
 * its fields are left empty.
 */
function parseBasic(authorization: string): Readings | undefined {
  if (!/^Basic( |$)/i.test(authorization)) return undefined
  const encoded = /^Basic +([A-Za-z0-9+/]+=*)$/i.exec(authorization)?.[1]
  const text = encoded === undefined ? '' : Buffer.from(encoded, 'base64').toString()
  const colon = text.indexOf(':')
  if (text === ':') return undefined
  if (colon >= 0 && !text.includes('\ufffd'))
    return { ids: basicReadings(text.slice(0, colon)), secrets: basicReadings(text.slice(colon + 1)) }
  throw new Refusal('invalid_client', { reason: 'malformed Basic credentials', headers: basicChallenge })
}

function basicReadings(text: string): string[] {
  try {
    return [...new Set([decodeURIComponent(text.replaceAll('+', ' ')), text])]
  } catch {
    return [text]
  }
}

/** A plus that was not encoded has come out of the form as a space. */
const formReadings = (text: string) => (text.includes(' ') ? [text, text.replaceAll(' ', '+')] : [text])

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('clientAuthentication', createClientAuthentication(app))
  },
  { name: 'client-authentication', dependencies: ['clients', 'secrets', 'throttle'] },
)
