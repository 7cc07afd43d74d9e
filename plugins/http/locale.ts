import type { FastifyRequest } from 'fastify'
import Negotiator from 'negotiator'
import { type Locale, locales } from '../../domain/user.ts'

/**
 * The language in which a request is answered, and in which the mail that it asks for is written: the first one that we
 * have of `ui_locales` (OpenID Connect Core §3.1.2.1), in the query or the form, or else the best of `Accept-Language`
 * (RFC 9110 §12.5.4); English where it wants none that we have.
 */
export function localeOf({ query, body, headers }: Pick<FastifyRequest, 'query' | 'body' | 'headers'>): Locale {
  return named(query) ?? named(body) ?? (new Negotiator({ headers }).language([...locales]) as Locale) ?? locales[0]
}

/** The first of the languages by their preference, as BCP 47 tags with spaces between them. */
function named(parameters: unknown): Locale | undefined {
  const { ui_locales: tags } = (parameters ?? {}) as { ui_locales?: unknown }
  if (typeof tags !== 'string') return undefined
  for (const tag of tags.toLowerCase().split(' ')) {
    const locale = locales.find((one) => tag === one || tag.startsWith(`${one}-`))
    if (locale) return locale
  }
  return undefined
}
