import { createHash } from 'node:crypto'
import type { FastifyInstance, InjectOptions } from 'fastify'
import type { ClientDefinition } from '../../domain/client.ts'
import { deviceGrant } from '../../domain/grant.ts'
import { callerFrom, makeClient } from './client-helper.ts'
import { json, postForm, storeOf } from './helper.ts'

/* Devices without a browser, RFC 8628. */

/** What a device has got at `POST /device_authorization`. */
export interface Codes {
  device_code: string
  user_code: string
  verification_uri: string
  verification_uri_complete: string
  expires_in: number
  interval: number
}

/** A client as command lines have one: public, with the device grant. @returns its id */
export async function makeDeviceClient(
  app: FastifyInstance,
  definition: Partial<ClientDefinition> = {},
): Promise<string> {
  const is = { id: 'cli', type: 'public' as const, grants: [deviceGrant, 'refresh_token'], ...definition }
  return (await makeClient(app, is)).id
}

export const askForCodes = (app: FastifyInstance, fields: Record<string, string> = {}, options?: InjectOptions) =>
  postForm(app, '/device_authorization', { client_id: 'cli', ...fields }, options)

export const codesOf = async (app: FastifyInstance, fields?: Record<string, string>): Promise<Codes> => {
  const answer = await askForCodes(app, fields)
  if (answer.statusCode !== 200) throw new Error(`no codes: ${answer.body}`)
  return json(answer)
}

/** The device asks whether its user has decided. */
export const poll = (
  app: FastifyInstance,
  { device_code }: Pick<Codes, 'device_code'>,
  fields: Record<string, string> = {},
) => postForm(app, '/token', { grant_type: deviceGrant, client_id: 'cli', device_code, ...fields })

/** A user types the code of a device and decides, as the page has them. @returns false where it is too late */
export async function decide(
  app: FastifyInstance,
  { user_code }: Pick<Codes, 'user_code'>,
  decision: 'allow' | 'refuse',
  username = 'ada',
): Promise<boolean> {
  const caller = callerFrom('192.0.2.1', app.log)
  const user = await storeOf(app).findUserByName(username)
  const request = user && (await app.deviceCodes.typedBy(caller, user, user_code))
  if (!user || !request) return false
  if (decision === 'refuse') return app.deviceCodes.refuse(caller, request, user)
  const { id: userId, generation } = user
  return app.deviceCodes.allow(caller, request, { userId, generation, granted: request.granted })
}

/** Makes the codes of a device ten minutes older, and leaves all else as it is. */
export async function letExpire(app: FastifyInstance, { device_code }: Pick<Codes, 'device_code'>): Promise<void> {
  const store = storeOf(app)
  const id = createHash('sha256').update(device_code).digest('base64url')
  const record = await store.findRecord({ kind: 'device', id, now: app.now() })
  if (!record) throw new Error('no such code')
  await store.removeRecord(id)
  await store.issueRecord({ ...record, createdAt: record.createdAt - 600_000 }, { perOwner: 1_000, perSource: 1_000 })
}
