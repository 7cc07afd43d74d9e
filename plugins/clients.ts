import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Refusal } from '../errors.ts'

declare module 'fastify' {
  interface FastifyInstance {
    clients: ReturnType<typeof createClients>
  }
}

export type GrantType = 'password' | 'refresh_token'

/** Who asks for tokens, RFC 6749 §2. */
export interface Client {
  id: string
  grants: readonly GrantType[]
  scopes: readonly string[]
}

const firstPartyId = 'first-party'

/** The clients that may ask for tokens. */
function createClients({ config }: FastifyInstance) {
  const grants: readonly GrantType[] = config.AUTH_PASSWORD_GRANT === 'on' ? ['password', 'refresh_token'] : ['refresh_token']
  const clients = new Map<string, Client>([[firstPartyId, { id: firstPartyId, grants, scopes: [] }]])

  return {
    /**
     * The client that makes a request, RFC 6749 §2.3: by its `client_id`; the public client `first-party` when there is none.
     *
     * @param authorization the header, where a confidential client would authenticate
     * @throws {Refusal} 401 `invalid_client` for a client that is unknown, or a secret where none was given out;
     * 400 `invalid_request` for credentials in two places
     */
    identify(authorization: string | undefined, form: { client_id?: string; client_secret?: string }): Client {
      const basic = authorization === undefined ? undefined : parseBasic(authorization)
      if (basic && (form.client_secret || (form.client_id && form.client_id !== basic.id))) {
        throw new Refusal('invalid_request', { detail: 'Client credentials must be in one place only' })
      }
      const client = clients.get(basic?.id ?? (form.client_id || firstPartyId))
      const secret = basic?.secret ?? form.client_secret
      if (!client || secret) {
        const challenge = basic && { headers: { 'www-authenticate': 'Basic realm="latchkey", charset="UTF-8"' } }
        throw new Refusal('invalid_client', { reason: client ? 'a secret for a public client' : 'unknown client', ...challenge })
      }
      return client
    },

    /**
     * The scope of a grant.
     *
     * @param requested space-separated, RFC 6749 §3.3; undefined or empty for the client's own
     * @throws {Refusal} 400 `invalid_scope`
     */
    grantScope(client: Client, requested: string | undefined): string[] {
      if (!requested) return []
      const names = parseScope(requested)
      const foreign = names.find((name) => !client.scopes.includes(name))
      if (foreign !== undefined) throw new Refusal('invalid_scope', { detail: 'The scope is not one that this client may ask for' })
      return names
    },
  }
}

/** Scope names, RFC 6749 §3.3. @throws {Refusal} 400 `invalid_scope` */
export function parseScope(scope: string): string[] {
  const names = scope.split(' ')
  if (!names.every((name) => /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(name)))
    throw new Refusal('invalid_scope', { detail: 'The scope is malformed' })
  return [...new Set(names)]
}

/** `client_secret_basic`: base64 of the form-encoded id and secret, RFC 6749 §2.3.1. Other schemes are no client's credentials. */
function parseBasic(authorization: string): { id: string; secret: string } | undefined {
  if (!/^Basic( |$)/i.test(authorization)) return undefined
  const encoded = /^Basic +([A-Za-z0-9+/]+=*)$/i.exec(authorization)?.[1]
  const text = encoded === undefined ? '' : Buffer.from(encoded, 'base64').toString()
  const colon = text.indexOf(':')
  try {
    if (colon >= 0) return { id: decode(text.slice(0, colon)), secret: decode(text.slice(colon + 1)) }
  } catch {
    // Refused below.
  }
  throw new Refusal('invalid_client', {
    reason: 'malformed Basic credentials',
    headers: { 'www-authenticate': 'Basic realm="latchkey", charset="UTF-8"' },
  })
}

const decode = (text: string) => decodeURIComponent(text.replaceAll('+', ' '))

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('clients', createClients(app))
  },
  { name: 'clients' },
)
