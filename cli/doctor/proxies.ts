import { createAddressReader } from '../../plugins/http/client-address.ts'
import { type Check, type Found, failed, NotKnown, needed, ok, skipped, warning } from './check.ts'
import type { Facts } from './facts.ts'
import { isLoopback, NoAnswer } from './http.ts'

/** How a request came to the service: what it answers to a probe. */
export interface Arrival {
  /** at the other end of its connection */
  peer: string
  /** `X-Forwarded-For` as it came */
  forwarded_for: string
  /** what it counts the request under */
  address: string
}

/** An address for documentation (RFC 5737), which nobody has. */
export const forged = '203.0.113.77'

const anotherSecret = 'the service does not know AUTH_SECRET as it is here, or is of another release'

/** How requests arrive, with a forged X-Forwarded-For and without. */
export const proxies: Check<Facts>[] = [
  {
    id: 'service',
    async find({ direct, config }) {
      if (config().PORT === 0) return skipped('PORT=0: the port is not known before the start')
      const answer = await direct().catch((error) => error)
      if (answer instanceof NoAnswer)
        return answer.code === 'ECONNREFUSED'
          ? skipped(`nothing listens on port ${config().PORT} here`)
          : failed(`on port ${config().PORT}: ${answer.message}`, 'PORT', 'look in the log of what listens there')
      if (answer.status === 200 && answer.json?.status === 'ok') return ok(`ready, on port ${config().PORT}`)
      if (answer.status === 503)
        return failed(
          `not ready: ${String(answer.json?.detail).slice(0, 200)}`,
          'the store',
          'look in its log for the cause',
        )
      return warning(`something else answers on port ${config().PORT}`, 'PORT', 'set it to another port')
    },
  },
  {
    id: 'proxies.direct',
    async find({ direct, arrived, config }) {
      const ready = await direct().catch(() => undefined)
      if (ready?.json?.status !== 'ok') return skipped('the service does not run here')
      const arrival = await arrived('direct', forged)
      if (!arrival) return warning(anotherSecret, 'AUTH_SECRET', 'run this with the settings of the service')
      if (arrival.address !== forged) return ok(`a forged X-Forwarded-For from ${arrival.peer} changes nothing`)
      if (isTrusted(arrival.peer, config().AUTH_TRUSTED_PROXIES))
        return ok(`X-Forwarded-For is believed from ${arrival.peer}, as AUTH_TRUSTED_PROXIES says`)
      return failed(
        `X-Forwarded-For is believed from ${arrival.peer}, which the settings here do not say`,
        'AUTH_TRUSTED_PROXIES',
        'start the service again with the settings of today',
      )
    },
  },
  {
    id: 'proxies.forwarded',
    async find({ arrived, config, issuer }) {
      await needed(issuer(), 'issuer')
      if (isDirect(config())) return skipped('AUTH_ISSUER leads here without a proxy')
      return judgeForwarded(await arrived('issuer'), config().AUTH_TRUSTED_PROXIES)
    },
  },
  {
    id: 'proxies.forged',
    async find({ arrived, config, issuer }) {
      await needed(issuer(), 'issuer')
      if (isDirect(config())) return skipped('AUTH_ISSUER leads here without a proxy')
      return judgeForged(await arrived('issuer', forged))
    },
  },
]

/** Whether AUTH_ISSUER is the port of this process, and nothing stands in between. */
const isDirect = ({ AUTH_ISSUER, PORT }: { AUTH_ISSUER: string; PORT: number }) =>
  isLoopback(AUTH_ISSUER) && new URL(AUTH_ISSUER).port === String(PORT)

function isTrusted(address: string, trusted: string[] | undefined): boolean {
  // What a trusted peer says is believed.
  return createAddressReader(trusted)(address, forged) === forged
}

const membersOf = (list: string) => list.split(',').flatMap((member) => member.trim() || [])

/** What the proxy makes of a request, and the service of that. */
export function judgeForwarded(arrival: Arrival | undefined, trusted: string[] | undefined): Found {
  if (!arrival) return warning(anotherSecret, 'AUTH_SECRET', 'run this with the settings of the service')
  const { peer, forwarded_for: list, address } = arrival
  const members = membersOf(list)
  if (members.length === 0)
    return warning(
      `the proxy at ${peer} sends no X-Forwarded-For: everybody has its address`,
      'the proxy',
      'have it send X-Forwarded-For with the address of its client',
    )
  if (!isTrusted(peer, trusted))
    return failed(
      `X-Forwarded-For is not believed from the proxy at ${peer}: everybody has its address`,
      'AUTH_TRUSTED_PROXIES',
      `set it to ${[...(trusted ?? []), peer.replace(/^::ffff:/, '')].join(',')}`,
    )
  const left = members.slice(0, -1)
  if (members.length > 1 && !left.includes(address) && members.at(-1)?.includes(address))
    return warning(
      `requests count under ${address}, behind which there are ${left.join(', ')}`,
      'AUTH_TRUSTED_PROXIES',
      `if ${address} is another proxy of yours, add it`,
    )
  return ok(`a request from here counts under ${address}, by the proxy at ${peer}`)
}

/** Whether a client may choose its address. @throws {NotKnown} */
export function judgeForged(claimed: Arrival | undefined): Found {
  if (!claimed) throw new NotKnown('not looked at, because of proxies.forwarded')
  if (claimed.address !== forged) return ok(`a forged X-Forwarded-For changes nothing: ${claimed.address}`)
  const own = membersOf(claimed.forwarded_for).at(-1)
  if (own !== undefined && own !== forged) {
    // The proxy says who asks, which is one that is trusted: this machine. A stranger would not be.
    if (isLoopback(`http://${own.includes(':') ? `[${own}]` : own}`))
      return ok(`the proxy adds the address of its client, ${own}`)
    return warning(
      `${own}, from where this asks, is in AUTH_TRUSTED_PROXIES: whatever it claims is believed`,
      'AUTH_TRUSTED_PROXIES',
      'name proxies alone, where clients come from such addresses too',
    )
  }
  return failed(
    'a client may choose the address that it counts under, and so escape every wait',
    'the proxy',
    'have it set X-Forwarded-For itself, or add to it, and set AUTH_TRUSTED_PROXIES to proxies alone',
  )
}
