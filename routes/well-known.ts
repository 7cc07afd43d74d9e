import { createHash } from 'node:crypto'
import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { grantTypes } from '../schemas/clients.ts'
import { problemAnswers } from '../schemas/errors.ts'

const maxAgeSeconds = 300
const AnyObject = Type.Unsafe<object>({ type: 'object', additionalProperties: true })
const metadataPath = '/.well-known/oauth-authorization-server'

/** What other services need to check tokens, and clients to find their way. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, signingKeys } = app
  const issuer = config.AUTH_ISSUER
  const at = (path: string) => issuer.replace(/\/$/, '') + path

  app.get(
    '/.well-known/jwks.json',
    {
      schema: {
        operationId: 'getPublicKeys',
        summary: 'The public keys, RFC 7517',
        tags: ['checking'],
        response: { 200: AnyObject, 304: Type.Null({ description: 'Not modified' }), ...problemAnswers(400) },
      },
    },
    async (request, reply) => {
      const keys = { keys: signingKeys.publicJwks() }
      const etag = `"${createHash('sha256').update(JSON.stringify(keys)).digest('base64url').slice(0, 22)}"`
      reply.headers({ etag, 'cache-control': `public, max-age=${maxAgeSeconds}` })
      const known = request.headers['if-none-match']?.split(',').map((tag) => tag.trim().replace(/^W\//, ''))
      if (known?.includes(etag) || known?.includes('*')) return reply.code(304).send(null)
      return reply.send(keys)
    },
  )

  const metadata = {
    issuer,
    token_endpoint: at('/token'),
    jwks_uri: at('/.well-known/jwks.json'),
    response_types_supported: [],
    grant_types_supported: grantTypes.filter((grant) => grant !== 'password' || config.AUTH_PASSWORD_GRANT === 'on'),
    token_endpoint_auth_methods_supported: ['none', 'client_secret_basic', 'client_secret_post'],
    revocation_endpoint: at('/revoke'),
    revocation_endpoint_auth_methods_supported: ['none', 'client_secret_basic', 'client_secret_post'],
    introspection_endpoint: at('/introspect'),
    introspection_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
    service_documentation: at('/docs'),
  }
  // RFC 8414 §3.1: the well-known part goes between the host and the path of the issuer.
  const path = new URL(issuer).pathname.replace(/\/$/, '')
  for (const url of new Set([metadataPath, metadataPath + path])) {
    app.get(
      url,
      {
        schema: {
          operationId: 'getServerMetadata',
          hide: url !== metadataPath,
          summary: 'Authorization server metadata, RFC 8414',
          tags: ['checking'],
          response: { 200: AnyObject, ...problemAnswers(400) },
        },
      },
      async (_request, reply) => reply.header('cache-control', `public, max-age=${maxAgeSeconds}`).send(metadata),
    )
  }
}

export default plugin
