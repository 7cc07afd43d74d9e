import type { Client } from './client.ts'
import { isScopeName } from './scope.ts'

/** Values of `grant_type`. What each does is in `routes/oauth/grants/`. */
export const grantTypes = ['password', 'refresh_token', 'client_credentials'] as const
export type GrantType = (typeof grantTypes)[number]

/** Reads a `scope`, RFC 6749 §3.3. @returns its names, each once; undefined where it is malformed */
export function parseScope(scope: string): string[] | undefined {
  const names = scope.split(' ')
  return names.every(isScopeName) ? [...new Set(names)] : undefined
}

/**
 * The audiences that a client may ask for.
 *
 * @param fallback AUTH_AUDIENCE
 * @returns at least one
 */
export const audienceOf = ({ audience }: Client, fallback: string): string[] =>
  audience.length > 0 ? audience : [fallback]
