import { ConfigError } from '../../config.ts'
import type { Position } from '../../domain/webhook.ts'
import { FetchFailed } from '../../plugins/run/guarded-fetch.ts'
import type { Endpoint } from '../../plugins/webhooks/endpoints.ts'
import { type Check, count, type Found, failed, NotKnown, needed, ok, skipped, span, warning } from './check.ts'
import type { Facts } from './facts.ts'

/** The endpoints, where there are any. @throws {NotKnown} */
function endpointsOf({ webhooks }: Facts): Endpoint[] {
  try {
    const endpoints = webhooks()
    if (endpoints.length > 0) return endpoints
  } catch (error) {
    throw error instanceof NotKnown ? error : new NotKnown('not looked at, because of webhooks')
  }
  throw new NotKnown('there are none')
}

/** A finding for each of some things that are not well, or one that says that all are. */
const orWell = (found: (Found | undefined)[], well: string): Found | Found[] => {
  const wrong = found.filter((one) => one !== undefined)
  return wrong.length > 0 ? wrong : ok(well)
}

function judgePosition({ url }: Endpoint, position: Position | undefined, now: number): Found | undefined {
  const { disabledAt, failing, failures = 0 } = position ?? {}
  const of = `${url.host}: ${failing?.why ?? 'it answered 410'}`
  if (disabledAt !== undefined)
    return failed(
      `disabled since ${span(now - disabledAt)}; ${of}`,
      'the receiver',
      `mend it, then latchkey webhook enable ${url.host}`,
    )
  if (failing) return warning(`${of}, ${count(failures, 'time')}`, 'the receiver', 'mend it: it is tried again')
  return undefined
}

/** The webhooks of AUTH_WEBHOOKS_FILE. */
export const webhooks: Check<Facts>[] = [
  {
    id: 'webhooks',
    find({ webhooks }) {
      try {
        const { length } = webhooks()
        return length === 0 ? skipped('AUTH_WEBHOOKS_FILE names none') : ok(count(length, 'endpoint'))
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error
        return failed(error.message, 'AUTH_WEBHOOKS_FILE', 'mend it: the service does not start with it')
      }
    },
  },
  {
    id: 'webhooks.reach',
    async find(facts) {
      const endpoints = endpointsOf(facts)
      const judge = async (endpoint: Endpoint): Promise<Found | undefined> => {
        try {
          await facts.reach(endpoint)
          return undefined
        } catch (error) {
          if (!(error instanceof FetchFailed)) throw error
          const { host } = endpoint.url
          return error.isRefused
            ? failed(error.message, 'AUTH_FETCH_ALLOW', 'name it there, if it is one of yours')
            : failed(`${host}: ${error.message}`, 'the receiver', 'start it, or mend its name or its certificate')
        }
      }
      return orWell(await Promise.all(endpoints.map(judge)), `${count(endpoints.length, 'endpoint')} answered`)
    },
  },
  {
    id: 'webhooks.told',
    async find(facts) {
      const endpoints = endpointsOf(facts)
      const positions = await needed(facts.store('webhooks'), 'store')
      return orWell(
        endpoints.map((endpoint) => judgePosition(endpoint, positions[endpoint.id], facts.now())),
        'none failed at its last try',
      )
    },
  },
]
