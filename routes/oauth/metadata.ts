import { createHash } from 'node:crypto'
import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { problemResponses } from '../../schemas/responses.ts'
import { serverMetadata } from './server-metadata.ts'

const maxAgeSeconds = 300
const AnyObject = Type.Unsafe<object>({ type: 'object', additionalProperties: true })
const oauthMetadata = '/.well-known/oauth-authorization-server'
const openIdMetadata = '/.well-known/openid-configuration'

/**
 * Where clients look for the metadata of an issuer with a path: the path behind the well-known part (RFC 8414 §3.1) or,
 * by OpenID Connect Discovery §4, before it. Compared as text, for a path may hold characters that the router's
 * patterns give a meaning.
 *
 * @returns a function for `rewriteUrl`, from the target of a request to that of the route; undefined where the issuer
 * has no path
 */
export function findMetadata(issuer: string): ((request: { url?: string | undefined }) => string) | undefined {
  const path = normalise(new URL(issuer).pathname.replace(/\/$/, ''))
  if (path === '') return undefined
  const aliases = new Map([
    [oauthMetadata + path, oauthMetadata],
    [openIdMetadata + path, openIdMetadata],
    [path + openIdMetadata, openIdMetadata],
  ])
  return ({ url = '' }) => {
    if (!url.includes('/.well-known/')) return url
    const [asked = ''] = url.split('?', 1)
    const found = aliases.get(normalise(asked))
    return found === undefined ? url : found + url.slice(asked.length)
  }
}

/** RFC 3986 §6.2.2.1: the digits of an escape have no case. */
const normalise = (path: string) => path.replace(/%[0-9a-f]{2}/gi, (octet) => octet.toUpperCase())

/** Public keys for the services that check tokens, metadata for clients, and for browsers who may use passkeys. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, signingKeys, passkeys } = app
  const issuer = config.AUTH_ISSUER

  app.get(
    '/.well-known/jwks.json',
    {
      schema: {
        operationId: 'getPublicKeys',
        summary: 'Public keys (JWK Set, RFC 7517)',
        tags: ['checking'],
        response: { 200: AnyObject, 304: Type.Null({ description: 'Not modified' }), ...problemResponses(400) },
      },
    },
    async (request, reply) => {
      const keys = { keys: await signingKeys.publicJwks() }
      const etag = `"${createHash('sha256').update(JSON.stringify(keys)).digest('base64url').slice(0, 22)}"`
      reply.headers({ etag, 'cache-control': `public, max-age=${maxAgeSeconds}` })
      const known = request.headers['if-none-match']?.split(',').map((tag) => tag.trim().replace(/^W\//, ''))
      if (known?.includes(etag) || known?.includes('*')) return reply.code(304).send(null)
      return reply.send(keys)
    },
  )

  const metadata = serverMetadata(app)
  for (const [url, operationId, summary] of [
    [oauthMetadata, 'getServerMetadata', 'Authorization server metadata (RFC 8414)'],
    [openIdMetadata, 'getOpenIdConfiguration', 'The same, where OpenID Connect libraries look (Discovery §4)'],
  ] as const) {
    app.get(
      url,
      { schema: { operationId, summary, tags: ['checking'], response: { 200: AnyObject, ...problemResponses(400) } } },
      async (_request, reply) => reply.header('cache-control', `public, max-age=${maxAgeSeconds}`).send(metadata),
    )
  }

  const origins = config.AUTH_WEBAUTHN_ORIGINS.filter((origin) => /^https?:/.test(origin) && !isOwn(origin, issuer))
  if (!passkeys.isOn || origins.length === 0) return
  app.get(
    '/.well-known/webauthn',
    {
      schema: {
        operationId: 'getPasskeyOrigins',
        summary: 'Pages of other hosts that may use the passkeys of this one (WebAuthn Level 3, §5.11)',
        tags: ['checking'],
        response: { 200: Type.Object({ origins: Type.Array(Type.String()) }), ...problemResponses(400) },
      },
    },
    async (_request, reply) => reply.header('cache-control', `public, max-age=${maxAgeSeconds}`).send({ origins }),
  )
}

const isOwn = (origin: string, issuer: string) => origin === new URL(issuer).origin

export default plugin
