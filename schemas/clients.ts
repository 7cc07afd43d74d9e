import { Type } from '@sinclair/typebox'
import { scopeCharacter } from '../domain/scope.ts'

/** What a client is made of, in the settings file, at `/admin/clients` and in the store. */

export const grantTypes = ['password', 'refresh_token', 'client_credentials'] as const

export const ClientId = Type.String({ description: '1 to 128 visible ASCII characters', examples: ['orders'] })

export const ClientType = Type.Union([Type.Literal('confidential'), Type.Literal('public')], {
  description: '`confidential` where a secret can be kept, `public` in browsers and apps',
})

export const GrantTypes = Type.Array(Type.Union(grantTypes.map((grant) => Type.Literal(grant))), {
  uniqueItems: true,
  description: 'Which grants it may use at `POST /token`',
})

export const ScopeNames = Type.Array(Type.String({ pattern: `^${scopeCharacter}{1,128}$` }), {
  uniqueItems: true,
  maxItems: 100,
  description: 'Scope names that it may ask for',
  examples: [['files:read', 'files:write']],
})

export const Audience = Type.Array(Type.String({ minLength: 1, maxLength: 512 }), {
  uniqueItems: true,
  maxItems: 20,
  description: 'What its tokens are for, their `aud`; AUTH_AUDIENCE when there is none',
  examples: [['https://files.example.com']],
})
