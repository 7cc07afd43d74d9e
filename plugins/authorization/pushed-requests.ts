import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { checked } from '../../domain/checks.ts'
import type { Client } from '../../domain/client.ts'
import { networkText } from '../../domain/network.ts'
import { Refusal } from '../../errors.ts'
import { createRecords } from '../records/records.ts'
import { type Parameters, parameterOf } from './parameters.ts'

declare module 'fastify' {
  interface FastifyInstance {
    pushedRequests: ReturnType<typeof createPushedRequests>
  }
}

interface Stored {
  client: string
  parameters: Parameters
}

/** RFC 9126 §2.2; a registered name, so that nobody takes it for something to be fetched. */
const urn = 'urn:ietf:params:oauth:request_uri:'
const ttlSeconds = 60
const mostWaiting = 2_000
const record = { prefix: 'lkq_', ttlSeconds, bounds: { perOwner: mostWaiting, perSource: mostWaiting } } as const

/** Requests for authorization that clients have pushed here, RFC 9126: the browser brings but the name of one. */
function createPushedRequests(app: Pick<FastifyInstance, 'store' | 'secrets' | 'authorization' | 'now'>) {
  const { authorization } = app
  const records = createRecords(app, { pushed_request: record })

  return {
    /**
     * Keeps a request.
     *
     * @param form what the client has sent, its credentials aside
     * @returns its name, `request_uri`
     * @throws {Refusal} what `/authorize` would say; 429 where too many wait
     */
    async push(caller: Caller, client: Client, form: Parameters): Promise<{ requestUri: string; ttlSeconds: number }> {
      const parameters = { ...form, client_id: client.id }
      if (parameterOf(parameters, 'request_uri') !== undefined)
        throw new Refusal('invalid_request', { detail: 'The request_uri of another request cannot be pushed' })
      await authorization.read(await authorization.destination(parameters), parameters)
      const data: Stored = { client: client.id, parameters }
      const source = networkText(caller.address)
      // For a client that shows no secret anybody may push.
      const owner = client.type === 'confidential' ? client.id : source
      const issued = await records.issue('pushed_request', { owner, source, data })
      if (issued) return { requestUri: urn + issued.secret, ttlSeconds }
      throw new Refusal('too_many_requests', {
        reason: 'too many pushed requests that no browser has brought',
        checks: [checked('requests_pushed', 'all', mostWaiting), checked('network', source)],
        headers: { 'retry-after': String(ttlSeconds) },
      })
    },

    /**
     * The request that parameters name, for once: all else that stands beside its name is ignored (RFC 9101 §5).
     *
     * @returns undefined where they name none of ours
     * @throws {Refusal} for one that is unknown, used, expired or another client's
     */
    async take(parameters: Parameters): Promise<Parameters | undefined> {
      const requestUri = parameterOf(parameters, 'request_uri')
      if (!requestUri?.startsWith(urn)) return undefined
      const secret = requestUri.slice(urn.length)
      const found = await records.present('pushed_request', secret)
      const stored = found?.data as Stored | undefined
      // Another client's is not used up by that.
      if (!stored || stored.client !== parameterOf(parameters, 'client_id')) throw gone()
      if (!(await records.take('pushed_request', secret))) throw gone()
      return stored.parameters
    },
  }
}

const gone = () =>
  new Refusal('invalid_request', {
    detail: 'The request_uri was used, has expired, or is of another client',
    checks: [checked('pushed_request', "unknown, used, expired, or another client's")],
  })

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('pushedRequests', createPushedRequests(app))
  },
  { name: 'pushed-requests', dependencies: ['store', 'secrets', 'authorization'] },
)
