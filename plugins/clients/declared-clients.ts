import { readFileSync } from 'node:fs'
import { type Static, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ConfigError } from '../../config.ts'
import type { Client, ClientSecret } from '../../domain/client.ts'
import { type ClientDefinition, isFirstParty, mayChallenge } from '../../domain/client.ts'
import { validateClient } from '../../domain/client-definition.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import { Refusal } from '../../errors.ts'
import { clientMembers, newClientMembers, toDefinition } from '../../schemas/clients.ts'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'

const Secret = Type.String({ minLength: 1, maxLength: 1024 })

const Declaration = Type.Object(
  {
    client_id: Type.String(),
    client_secret: Type.Optional(Type.Union([Secret, Type.Array(Secret, { minItems: 1, maxItems: 2 })])),
    ...newClientMembers,
    audience: Type.Optional(Type.Union([Type.String({ minLength: 1 }), clientMembers.audience])),
    introspect: Type.Optional(Type.Union([clientMembers.introspect, Type.Literal('audience')])),
  },
  { additionalProperties: false },
)
type Declaration = Static<typeof Declaration>
const Declarations = Type.Array(Declaration)

/** A secret that is shorter is taken, and warned about: nobody knows how it was made. */
const shortSecret = 32
/** Means the same with and without the encoding of a form. */
const isSafeAnywhere = /^[A-Za-z0-9._~-]+$/
/** The same in a form alone, where a URL is safe: without a secret there is no Basic. */
const isSafeInForm = /^[^%+&#]+$/

const listOf = <T>(value: T | T[] | undefined): T[] =>
  value === undefined ? [] : Array.isArray(value) ? value : [value]

/**
 * Reads AUTH_CLIENTS_FILE: a JSON array of clients, or an object with the array as `clients`.
 *
 * @param allowed AUTH_FETCH_ALLOW
 * @throws {ConfigError} for whatever is not as expected, naming the client and the member, never a secret
 */
export function readDeclarations(
  path: string,
  allowed?: string[],
): { definition: ClientDefinition; secrets: string[] }[] {
  const expected = (what: string) => new ConfigError(`AUTH_CLIENTS_FILE: expected ${what} in ${path}`)
  let content: unknown
  try {
    content = JSON.parse(readFileSync(path, 'utf8').replace(/^\ufeff/, ''))
  } catch (error) {
    // Never the parser's message: it may quote a secret.
    throw expected(`JSON that can be read, got ${(error as NodeJS.ErrnoException).code ?? 'no JSON'},`)
  }
  const given = Array.isArray(content) ? content : (content as { clients?: unknown } | null)?.clients
  const list = Array.isArray(given) ? given.map(withScopeNames) : given
  const error = Value.Errors(Declarations, list).First()
  if (error)
    throw expected(`every client to have what docs/clients.md says (${memberOf(error.path)}: ${error.message})`)

  const declarations = (list as Declaration[]).map((declaration) => {
    const { client_id: id, client_secret: secret, audience, ...members } = declaration
    const { type = secret === undefined ? 'public' : 'confidential' } = members
    const definition = toDefinition({ client_id: id, ...members, type, audience: listOf(audience) })
    const wrong = validateClient(definition, allowed)
    if (wrong) throw expected(`for ${JSON.stringify(id)} that ${wrong.pointer.slice(1)} ${wrong.detail}`)
    if ((type === 'confidential') !== (secret !== undefined)) {
      throw expected(`for ${JSON.stringify(id)} a client_secret if it is confidential, and none if it is public`)
    }
    return { definition, secrets: listOf(secret) }
  })
  const ids = declarations.map(({ definition }) => definition.id)
  const twice = ids.find((id, i) => ids.indexOf(id) !== i)
  if (twice !== undefined) throw expected(`${JSON.stringify(twice)} once only`)
  return declarations
}

/** Scopes are often written as OAuth sends them, with a space between them. */
const withScopeNames = (item: { scopes?: unknown } | null) =>
  typeof item?.scopes === 'string' ? { ...item, scopes: item.scopes.split(' ') } : item

/** The pointer of a member. A name that is no short word may be a secret in the wrong place, and is not repeated. */
const memberOf = (pointer: string) =>
  pointer.replace(/[^/]+/g, (name) => (/^\w{1,32}$/.test(name) ? name : '?')) || 'the list'

/**
 * Brings the store up to what AUTH_CLIENTS_FILE says: what it declares is made or changed, what it declared before and
 * does not any more is removed. That a client was disabled stays. Processes that start at once agree, for each step is
 * a compare-and-set.
 */
async function applyDeclarations({
  config,
  store,
  changes,
  clients,
  clientAuthentication,
  now,
  log,
}: Pick<
  FastifyInstance,
  'config' | 'store' | 'changes' | 'clients' | 'clientAuthentication' | 'now' | 'log'
>): Promise<void> {
  const path = config.AUTH_CLIENTS_FILE
  if (path === undefined) return
  const declarations = readDeclarations(path, config.AUTH_FETCH_ALLOW)
  const { hashDeclared, isSecretOf } = clientAuthentication

  /**
   * Also those made under AUTH_SECRET_PREVIOUS stay as long as it is set: a replica that has no newer one verifies by
   * them.
   */
  function keptSecrets(before: Client | undefined, texts: string[]): ClientSecret[] {
    const known = before?.secrets ?? []
    const current = texts.map(
      (text) => known.find(({ hash }) => hash === hashDeclared(text)) ?? { hash: hashDeclared(text), createdAt: now() },
    )
    const isStillDeclared = (secret: ClientSecret) =>
      texts.some((text) => isSecretOf({ secrets: [secret] } as Client, text))
    return [
      ...current,
      ...known.filter(
        (secret) => !current.includes(secret) && secret.hash.startsWith('hmac:') && isStillDeclared(secret),
      ),
    ]
  }

  async function apply(definition: ClientDefinition, texts: string[]): Promise<void> {
    await retryUntilApplied(`The client ${definition.id}`, async () => {
      const before = await store.findClient(definition.id)
      const secrets = keptSecrets(before, texts)
      const declared = { ...definition, secrets, isDeclared: true }
      if (!before) {
        const createdAt = await clients.birthOf(definition.id)
        return changes.make({ log }, 'client.created', { client_id: definition.id }, (store) =>
          store.createClient({ ...declared, createdAt, generation: createdAt }),
        )
      }
      const { createdAt, disabledAt, generation } = before
      const next = { ...declared, createdAt, generation, ...omitUndefined({ disabledAt }) }
      // A row of an earlier release does not say whether it is first-party.
      if (Value.Equal({ ...before, firstParty: isFirstParty(before) }, next)) return true
      return changes.make({ log }, 'client.changed', { client_id: definition.id }, (store) =>
        store.replaceClient({ ...next, generation: generation + 1 }),
      )
    })
  }

  async function remove(id: string): Promise<void> {
    try {
      await clients.remove({ log }, id)
    } catch (error) {
      // Another process that starts was faster.
      if (!(error instanceof Refusal && error.code === 'not_found')) throw error
    }
  }

  for (const { definition, secrets } of declarations) {
    if (secrets.some((secret) => secret.length < shortSecret)) {
      log.warn(
        `AUTH_CLIENTS_FILE: the client_secret of ${JSON.stringify(definition.id)} is short; at least ` +
          `${shortSecret} random characters are safe`,
      )
    }
    const isSafe = secrets.length > 0 ? isSafeAnywhere : isSafeInForm
    if (!isSafe.test(definition.id) || secrets.some((secret) => !isSafeAnywhere.test(secret))) {
      log.warn(
        `AUTH_CLIENTS_FILE: the client_id or client_secret of ${JSON.stringify(definition.id)} has ` +
          `characters that have to be encoded in a form or in Basic, and programs often forget it; ` +
          `take letters, digits and -._~, for example from "openssl rand -hex 32"`,
      )
    }
    const takesPasswords = config.AUTH_PASSWORD_GRANT === 'on' && definition.grants.includes('password')
    if (takesPasswords && !mayChallenge(definition)) {
      log.warn(
        `AUTH_CLIENTS_FILE: ${JSON.stringify(definition.id)} takes passwords and may not use /challenge, so whoever has ` +
          'a second factor cannot sign in by it; give it "first_party": true and the grant authorization_code',
      )
    }
    await apply(definition, secrets)
  }

  const declared = new Set(declarations.map(({ definition }) => definition.id))
  let after: string | undefined
  do {
    const page = await store.listClients({ limit: 100, ...(after !== undefined && { after }) })
    for (const { id, isDeclared } of page.clients) if (isDeclared && !declared.has(id)) await remove(id)
    after = page.next
  } while (after !== undefined)
}

export default fp(applyDeclarations, {
  name: 'declared-clients',
  dependencies: ['store', 'changes', 'clients', 'client-authentication'],
})
