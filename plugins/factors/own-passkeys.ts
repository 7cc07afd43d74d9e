import { randomUUID } from 'node:crypto'
import type { PublicKeyCredentialCreationOptionsJSON } from '@simplewebauthn/server'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { checked } from '../../domain/checks.ts'
import { amrOf, isPasskey, type Passkey } from '../../domain/factor.ts'
import { networkText } from '../../domain/network.ts'
import { invalidMember, Refusal } from '../../errors.ts'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'
import { createRecords } from '../records/records.ts'
import { type Prove, refuseTooMany, showing } from './adding.ts'
import type { Fresh } from './fresh.ts'

declare module 'fastify' {
  interface FastifyInstance {
    ownPasskeys: ReturnType<typeof createOwnPasskeys>
  }
}

/** Its secret is the challenge of a registration. Its life is how long somebody may take over it. */
const registration = {
  prefix: 'lkw_',
  ttlSeconds: 600,
  bounds: { perOwner: 10, perSource: 1_000 },
} as const

/** For which session a challenge was made. */
interface Registering {
  session: string
}

/** Passkeys that users add to their own accounts. */
function createOwnPasskeys({
  store,
  secrets,
  factors,
  passkeys,
  now,
}: Pick<FastifyInstance, 'store' | 'secrets' | 'factors' | 'passkeys' | 'now'>) {
  const records = createRecords({ store, secrets, now }, { passkey: registration })

  /** Takes the challenge that a response is to, whatever becomes of it: each is good for one try of the session. */
  async function takeChallenge({ user, session }: Fresh, response: unknown): Promise<string> {
    const challenge = passkeys.challengeOf(response) ?? ''
    const found = await records.present('passkey', challenge)
    const isIts = found?.record.owner === user.id && (found.data as Registering).session === session.id
    if (isIts && (await records.take('passkey', challenge))) return challenge
    throw wrongResponse('to no challenge of the session, or to one that was used or has expired')
  }

  return {
    registrationTtlSeconds: registration.ttlSeconds,

    /**
     * Begins to add a passkey.
     *
     * @returns the options for `navigator.credentials.create`
     * @throws {Refusal} 409 where the user has as many factors as anybody may; 429 where ten are under way
     */
    async begin(caller: Caller, prove: Prove): Promise<PublicKeyCredentialCreationOptionsJSON> {
      const fresh = await prove()
      refuseTooMany(fresh)
      const { user, session } = fresh
      const known = fresh.factors.factors.filter(isPasskey)
      const data: Registering = { session: session.id }
      const issued = await records.issue('passkey', { owner: user.id, source: networkText(caller.address), data })
      if (!issued) {
        throw new Refusal('too_many_requests', {
          reason: 'too many registrations of passkeys under way',
          headers: { 'retry-after': String(registration.ttlSeconds) },
        })
      }
      return passkeys.creationOptions(user, { challenge: issued.secret, known })
    },

    /**
     * Adds a passkey. A session that has shown no second factor yet has shown this one.
     *
     * @param response what `navigator.credentials.create` has made, in JSON
     * @param name that of the authenticator's model, where none is given
     * @throws {Refusal} 400 for a response that is not good, or is of a passkey that is there; 409 as `begin` does
     */
    async add(caller: Caller, prove: Prove, response: unknown, name?: string): Promise<Passkey> {
      const challenge = await takeChallenge(await prove(), response)
      const made = await passkeys.register(response, challenge)
      if ('wrong' in made) throw wrongResponse(made.wrong)
      const passkey: Passkey = {
        ...made.good,
        ...(name !== undefined && { name }),
        ...{ kind: 'webauthn', id: randomUUID(), createdAt: now() },
      }
      return retryUntilApplied('The factors', async () => {
        const fresh = await prove()
        refuseTooMany(fresh)
        const isThere = fresh.factors.factors.some(
          (factor) => isPasskey(factor) && factor.credentialId === passkey.credentialId,
        )
        if (isThere) throw invalidMember('/response', 'is of a passkey that is there already')
        const also = showing(fresh, passkey.id, amrOf(passkey), now())
        return (await factors.add(caller, fresh.user, passkey, also)) && passkey
      })
    },
  }
}

const wrongResponse = (reason: string) =>
  new Refusal('invalid_request', {
    detail: 'The response is not that of a passkey that was asked for here, a moment ago',
    errors: [{ pointer: '/response', detail: 'is not that of a passkey that was asked for here, a moment ago' }],
    reason,
    checks: [checked('second_factor', `wrong passkey: ${reason}`)],
  })

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('ownPasskeys', createOwnPasskeys(app))
  },
  { name: 'own-passkeys', dependencies: ['store', 'secrets', 'factors', 'passkeys'] },
)
