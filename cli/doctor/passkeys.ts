import { relatedOrigins, rpIdOf } from '../../config/passkeys.ts'
import { type Check, ok, skipped, warning } from './check.ts'
import type { Facts } from './facts.ts'

/** Where passkeys may be used. */
export const passkeys: Check<Facts>[] = [
  {
    id: 'passkeys',
    find({ config }) {
      const rpId = rpIdOf(config().AUTH_ISSUER)
      if (rpId === undefined) return skipped('the host of AUTH_ISSUER is an address, and passkeys are of a name')
      return ok(`of ${rpId}, used at ${config().AUTH_WEBAUTHN_ORIGINS.join(', ')}`)
    },
  },
  {
    id: 'passkeys.related',
    async find({ config, passkeyOrigins }) {
      const related = relatedOrigins(config())
      if (rpIdOf(config().AUTH_ISSUER) === undefined || related.length === 0)
        return skipped('no page of another host uses them')
      const answer = await passkeyOrigins().catch(() => undefined)
      const { origins } = (answer?.json ?? {}) as { origins?: unknown }
      const told = Array.isArray(origins) ? origins : []
      const missing = related.filter((origin) => !told.includes(origin))
      if (missing.length === 0) return ok(`browsers are told of ${related.join(', ')}`)
      return warning(
        `browsers are not told that ${missing.join(', ')} may use them`,
        'AUTH_WEBAUTHN_ORIGINS',
        `let the proxy pass https://${rpIdOf(config().AUTH_ISSUER)}/.well-known/webauthn on to the service`,
      )
    },
  },
]
