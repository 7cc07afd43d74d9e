import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import { createAuthenticator, type Lies } from './authenticator.ts'
import { begin, challenge, exchange } from './factors.ts'
import { json, logIn, type Tokens, withToken } from './helper.ts'

/* Passkeys over HTTP. */

export type Device = ReturnType<typeof createAuthenticator>

/** Asks for the options of a passkey that is to be added. */
export const askToAdd = (app: FastifyInstance, accessToken: string): Promise<LightMyRequestResponse> =>
  withToken(app, accessToken, { method: 'POST', url: '/users/me/factors/passkeys/options' })

/** Hands in what an authenticator has made. */
export const hand = (app: FastifyInstance, accessToken: string, payload: object): Promise<LightMyRequestResponse> =>
  withToken(app, accessToken, { method: 'POST', url: '/users/me/factors/passkeys', payload })

/** Adds a passkey. @param name none: that of the model */
export async function addPasskey(
  app: FastifyInstance,
  accessToken: string,
  device: Device,
  { name, ...lies }: Lies & { name?: string } = {},
): Promise<LightMyRequestResponse> {
  const options = json(await askToAdd(app, accessToken))
  return hand(app, accessToken, { ...(name !== undefined && { name }), response: device.create(options, lies) })
}

/** Signs a user in by password, and has them add a passkey. @returns its device and id, and the tokens */
export async function givePasskey(app: FastifyInstance, username = 'ada', device = createAuthenticator()) {
  const tokens = await logIn(app, username)
  const added = await addPasskey(app, tokens.access_token, device)
  if (added.statusCode !== 201) throw new Error(`not added: ${added.body}`)
  return { device, id: json(added).id as string, tokens }
}

/** Has a device answer what a step of a sign-in has asked for. */
export async function answerWith(
  app: FastifyInstance,
  device: Device,
  asked: LightMyRequestResponse,
  lies: Lies = {},
): Promise<LightMyRequestResponse> {
  const { auth_session, webauthn } = json(asked)
  return challenge(app, { auth_session, webauthn: JSON.stringify(device.get(webauthn, lies)) })
}

export const beginByPasskey = (app: FastifyInstance) => challenge(app, { method: 'webauthn' })

/** Trades in the code of an answer. */
export async function tokensOf(app: FastifyInstance, answer: LightMyRequestResponse): Promise<Tokens> {
  if (answer.statusCode !== 200) throw new Error(`not signed in: ${answer.body}`)
  return json(await exchange(app, json(answer).authorization_code))
}

/** Signs in by passkey alone. */
export const signInByPasskey = async (app: FastifyInstance, device: Device, lies: Lies = {}): Promise<Tokens> =>
  tokensOf(app, await answerWith(app, device, await beginByPasskey(app), lies))

/** Signs in by password and passkey. */
export const signInWithPasskey = async (app: FastifyInstance, device: Device, username = 'ada'): Promise<Tokens> =>
  tokensOf(app, await answerWith(app, device, await begin(app, username)))
