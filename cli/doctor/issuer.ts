import { type Check, type Found, failed, NotKnown, needed, ok, skipped, warning } from './check.ts'
import { serverOf } from './database.ts'
import type { Facts } from './facts.ts'
import { type Answer, bare, type Certificate, isLoopback, isOfCertificate, NoAnswer } from './http.ts'

export const metadataPath = '/.well-known/openid-configuration'

/** What is said of an issuer that does not answer, and of one that answers something else. */
export function judgeMetadata(url: string, answer: Answer | NoAnswer): Found {
  const asked = bare(url) + metadataPath
  if (answer instanceof NoAnswer) {
    const advice = isOfCertificate(answer.code)
      ? 'mend it, or name its authority to clients (of Node: NODE_EXTRA_CA_CERTS)'
      : 'start the service, mend the proxy or the name, or set it to the URL that everybody calls'
    const setting = isOfCertificate(answer.code) ? "the proxy's certificate" : 'AUTH_ISSUER'
    const judge = isLoopback(url) && answer.code === 'ECONNREFUSED' ? warning : failed
    return judge(`${asked}: ${answer.message}`, setting, advice)
  }
  if (answer.status === 200 && typeof answer.json?.issuer === 'string') return ok(`${asked} answers`)
  const where = answer.headers.get('location')
  return failed(
    `${asked}: ${answer.status}${where ? `, which leads to ${where}` : ''}, and no metadata`,
    'AUTH_ISSUER',
    'set it to the URL at which the service answers, and have the proxy pass all paths below it on',
  )
}

export function judgeEquality(expected: string, { json }: Answer): Found {
  if (json?.issuer === expected) return ok(`it says ${expected} of itself`)
  return failed(
    `at ${expected} answers ${String(json?.issuer).slice(0, 200)}`,
    'AUTH_ISSUER',
    'set it to one URL in every replica and client: tokens of another issuer are refused',
  )
}

const daysLeast = { failed: 3, warning: 14 }

export function judgeCertificate({ validToMs, issuer }: Certificate, now: number): Found {
  const days = Math.floor((validToMs - now) / 86_400_000)
  const seen = days < 0 ? `it has expired ${-days} days ago` : `${days} days left, by ${issuer}`
  const advice = 'renew it: what renews it by itself did not'
  if (days < daysLeast.failed) return failed(seen, "the proxy's certificate", advice)
  return days < daysLeast.warning ? warning(seen, "the proxy's certificate", advice) : ok(seen)
}

/** The service as others see it, at AUTH_ISSUER. */
export const issuer: Check<Facts>[] = [
  {
    id: 'issuer.https',
    find({ config }) {
      const { AUTH_ISSUER: url } = config()
      if (url.startsWith('https:')) return ok(url)
      if (isLoopback(url)) return ok(`${url}, for this machine only`, 'for others, set AUTH_ISSUER to their URL of it')
      return warning(
        `${url}: passwords and tokens travel readable`,
        'AUTH_ISSUER',
        'put a proxy with TLS in front, and set it to the https URL',
      )
    },
  },
  {
    id: 'issuer',
    async find(facts) {
      const { config, issuer } = facts
      if (new URL(config().AUTH_ISSUER).port === '0') return skipped('PORT=0: the port is not known before the start')
      const answer = await issuer().catch((error) => error)
      if (answer instanceof NoAnswer && (await isNew(facts)))
        return skipped('there is no store yet, and nothing answers')
      return judgeMetadata(config().AUTH_ISSUER, answer)
    },
  },
  {
    id: 'issuer.equal',
    find: async ({ config, issuer }) => judgeEquality(config().AUTH_ISSUER, await documented(issuer())),
  },
  {
    id: 'issuer.keys',
    async find({ keys, issuer, jwks, now }) {
      await documented(issuer())
      const { json } = await needed(jwks(), 'issuer')
      const jwkSet: { kid?: string; alg?: string }[] = json?.keys ?? []
      const published = jwkSet.map(({ kid }) => String(kid))
      const stored = (await needed(keys(), 'store')).known()
      const isStored = (kid?: string) => stored.some((key) => key.kid === kid)
      // The first key of an algorithm is made when the JWKS is asked for, which may be now.
      const isFirst = (alg?: string) => alg !== undefined && !stored.some((key) => key.alg === alg)
      const foreign = jwkSet.filter(({ kid, alg }) => !isStored(kid) && !isFirst(alg))
      // A replica looks each minute, and what caches the JWKS keeps it for five.
      const missing = stored.filter(({ kid, createdAt }) => !published.includes(kid) && now() - createdAt > 7 * 60_000)
      if (!published.some(isStored))
        return failed(
          `none of the ${published.length} keys there is in this store`,
          'AUTH_ISSUER',
          'another service answers there, or one on another store: compare DATABASE_URL and AUTH_DATA_DIR',
        )
      if (foreign.length > 0 || missing.length > 0)
        return warning(
          `${foreign.length} keys there are not in this store, and ${missing.length} of this are not there`,
          'the proxy',
          'have it cache the JWKS no longer than Cache-Control says; look in the logs of the replicas',
        )
      return ok(`all ${stored.length} of this store`)
    },
  },
  {
    id: 'issuer.certificate',
    async find({ config, certificate, now }) {
      if (!config().AUTH_ISSUER.startsWith('https:')) return skipped('AUTH_ISSUER is not https')
      return judgeCertificate(await needed(certificate(), 'issuer'), now())
    },
  },
]

/** Whether no service was ever started on the store. */
const isNew = async (facts: Facts): Promise<boolean> =>
  facts.place().kind === 'lmdb'
    ? facts.isMissing()
    : serverOf(facts).then(
        ({ steps }) => steps === undefined,
        () => false,
      )

/** An answer that is metadata. @throws {NotKnown} for any other, of which `issuer` reports */
export async function documented(answer: Promise<Answer>, id = 'issuer'): Promise<Answer> {
  const found = await needed(answer, id)
  if (found.status !== 200 || typeof found.json?.issuer !== 'string')
    throw new NotKnown(`not looked at, because of ${id}`)
  return found
}
