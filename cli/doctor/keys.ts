import type { FastifyInstance } from 'fastify'
import { ConfigError } from '../../config.ts'
import type { SigningAlg } from '../../domain/signing-key.ts'
import { readKeyFile } from '../../plugins/keys/key-material.ts'
import { createKeyRing } from '../../plugins/keys/key-ring.ts'
import { createSecrets } from '../../plugins/keys/secrets.ts'
import { type Check, type Found, failed, NotKnown, needed, ok, skipped, span, warning } from './check.ts'
import type { Facts } from './facts.ts'

export type KeyRing = Pick<ReturnType<typeof createKeyRing>, 'algs' | 'known' | 'signingAnywhere'>

/** The keys in the store, as a service with these settings would have them. */
export async function readKeys({ config, store, secret, now }: Facts): Promise<KeyRing> {
  const { AUTH_SIGNING_KEY_FILE: _, ...settings } = config()
  const secrets = [secret()?.text, settings.AUTH_SECRET_PREVIOUS].filter((text) => text !== undefined)
  const ring = createKeyRing({
    config: settings,
    // All that it asks of one.
    store: { listSigningKeys: () => store('signingKeys') } as FastifyInstance['store'],
    // Of a store without a secret nothing opens.
    secrets: createSecrets(secrets.length > 0 ? secrets : ['']),
    now,
    uptimeMs: () => performance.now(),
  })
  await ring.load()
  return ring
}

/** A service looks each minute, and publishes the next key a day before it signs, ten minutes at least. */
const overdueMs = 3_600_000

/** How the keys of an algorithm follow one another. @returns undefined where it has none */
function ageOf(ring: KeyRing, alg: SigningAlg, rotationMs: number, now: number): Found | undefined {
  const signing = ring.signingAnywhere(alg)
  if (!signing) return undefined
  const next = ring.known().find((key) => key.alg === alg && key.signsFrom > now)
  if (next) return ok(`the next one signs in ${span(next.signsFrom - now)}`)
  const ageMs = now - signing.signsFrom
  const leftMs = rotationMs - ageMs
  if (leftMs > -overdueMs)
    return ok(
      `it signs since ${span(Math.max(0, ageMs))}, and is replaced ${leftMs > 0 ? `in ${span(leftMs)}` : 'now'}`,
    )
  return warning(
    `that of ${alg} should have been replaced ${span(-leftMs)} ago`,
    'AUTH_KEY_ROTATION',
    'start the service, or look in its log for why it cannot write keys',
  )
}

/** The keys that sign tokens. */
export const keys: Check<Facts>[] = [
  {
    id: 'keys.secret',
    async find({ keys }) {
      const sealed = (await needed(keys(), 'store')).known().filter(({ sealedBy }) => sealedBy !== undefined)
      if (sealed.length === 0) return skipped('no key in the store is sealed')
      const [newest] = sealed
      if (newest?.sealedBy === 'another')
        return failed(
          'no secret that is known here opens the newest key in the store',
          'AUTH_SECRET',
          'set it, or AUTH_SECRET_PREVIOUS, to the one that the store was used with; where that is lost: docs/keys.md',
        )
      const unopened = sealed.filter(({ sealedBy }) => sealedBy === 'another').length
      if (unopened > 0)
        return warning(
          `${unopened} of ${sealed.length} keys do not open, which may sign no more`,
          'AUTH_SECRET_PREVIOUS',
          'set it to the secret before, until they have retired',
        )
      return ok(
        `it opens all ${sealed.length}${newest?.sealedBy === 'previous' ? ', the newest by the previous one' : ''}`,
      )
    },
  },
  {
    id: 'keys.age',
    async find({ keys, config, now }) {
      const { AUTH_KEY_ROTATION: rotation, AUTH_SIGNING_KEY_FILE: own, AUTH_SIGNING_ALG: alg } = config()
      const ring = await needed(keys(), 'store')
      const signing = ring.signingAnywhere()
      if (!signing) throw new NotKnown('there is no key yet: the first start makes one')
      if (own === undefined && signing.alg !== alg)
        return warning(`${signing.alg} signs, not ${alg}`, 'AUTH_SIGNING_ALG', 'start the service: it makes such a key')
      const ofOthers = ring.algs.filter((of) => of !== alg).map((of) => ageOf(ring, of, rotation.ms, now()))
      const overdue = ofOthers.find((finding) => finding?.verdict === 'warning')
      if (own !== undefined)
        return (
          overdue ??
          ok(
            `that of AUTH_SIGNING_KEY_FILE, which you replace yourself; it signs since ${span(now() - signing.signsFrom)}`,
          )
        )
      const ofAccess = ageOf(ring, alg, rotation.ms, now()) as Found
      return ofAccess.verdict === 'ok' ? (overdue ?? ofAccess) : ofAccess
    },
  },
  {
    id: 'keys.file',
    find({ config }) {
      const { AUTH_SIGNING_KEY_FILE: path, AUTH_SIGNING_ALG: alg } = config()
      if (path === undefined) return skipped('AUTH_SIGNING_KEY_FILE is not set')
      try {
        return ok(`${path} has a key for ${readKeyFile(path, alg).record.alg}`)
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error
        return failed(error.message, 'AUTH_SIGNING_KEY_FILE', 'mend it: the service does not start with it')
      }
    },
  },
]
