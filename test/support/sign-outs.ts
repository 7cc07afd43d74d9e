import { createHash } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { Client } from '../../domain/client.ts'
import { answerOf, type openBrowser } from './browser.ts'
import { json, postForm, storeOf } from './helper.ts'

/** What an app gets of a sign-in in a browser. */
export interface AppTokens {
  access_token: string
  refresh_token: string
  id_token: string
}

export const appCreatedAt = 1_700_000_000_000

/** An app that nobody is asked about. */
export async function addApp(app: FastifyInstance, id: string, more: Partial<Client> = {}): Promise<void> {
  const client: Client = {
    ...{ id, type: 'public', grants: ['authorization_code', 'refresh_token'], scopes: [], audience: [] },
    ...{ introspect: 'none', isDeclared: false, secrets: [], generation: 0, createdAt: appCreatedAt },
    ...{ redirectUris: [`https://${id}.example.com/cb`], consent: 'implicit', idTokenAlg: 'ES256', ...more },
  }
  if (!(await storeOf(app).createClient(client))) throw new Error(`there is a client ${id}`)
}

const verifier = 'v'.repeat(43)
const code_challenge = createHash('sha256').update(verifier).digest('base64url')

/** Signs in to an app from a browser, as ada, where nobody is signed in yet. */
export async function signInTo(
  app: FastifyInstance,
  browser: ReturnType<typeof openBrowser>,
  client_id: string,
  { scope = 'openid', username = 'ada' } = {},
): Promise<AppTokens> {
  const redirect_uri = `https://${client_id}.example.com/cb`
  const asked = { client_id, redirect_uri, response_type: 'code', scope, code_challenge, code_challenge_method: 'S256' }
  const page = await browser.open(`/authorize?${new URLSearchParams(asked)}`)
  const { code = '' } = answerOf(page.statusCode === 303 ? page : await browser.signIn(username, undefined, page))
  const fields = { grant_type: 'authorization_code', client_id, redirect_uri, code, code_verifier: verifier }
  const tokens = json(await postForm(app, '/token', fields))
  if (!tokens.id_token) throw new Error(`no tokens: ${JSON.stringify(tokens)}`)
  return tokens
}

/** What a JWT says. */
// biome-ignore lint/suspicious/noExplicitAny: what it holds is the test's to say
export const said = (token: string): any => JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
