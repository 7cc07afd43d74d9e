import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import { type Build, giveRoles, json, password, postForm, signUp, storeOf, type TestApp, withToken } from './helper.ts'

export const logInAs = (app: FastifyInstance, username: string, fields = {}) =>
  postForm(app, '/token', { grant_type: 'password', username, password, ...fields })

export type Call = (method: InjectOptions['method'], url: string, payload?: object) => Promise<LightMyRequestResponse>

interface Administered extends TestApp {
  call: Call
  token: string
  adminId: string
  /** every answer so far */
  answers: LightMyRequestResponse[]
}

/** The service with an administrator, who logs in with the scope. */
export async function administered(build: Build, settings: Record<string, string> = {}): Promise<Administered> {
  const test = await build(settings)
  const { app } = test
  const { id: adminId } = json(await signUp(app, 'root'))
  await giveRoles(storeOf(app), adminId, ['admin'])
  const { access_token: token } = json(await logInAs(app, 'root', { scope: 'admin' }))
  const answers: LightMyRequestResponse[] = []
  const call: Call = async (method, url, payload) => {
    const answer = await withToken(app, token, { method: method as 'GET', url, ...(payload && { payload }) })
    answers.push(answer)
    return answer
  }
  return { ...test, call, token, adminId, answers }
}

/** Whether an answer is a problem (RFC 9457) of a status and a code. */
export async function isProblem(
  t: Test,
  answer: LightMyRequestResponse,
  status: number,
  code: string,
  what: string,
): Promise<void> {
  t.equal(answer.statusCode, status, `${what}: ${status} (${answer.body.slice(0, 100)})`)
  t.match(answer.headers['content-type'], 'application/problem+json', what)
  t.equal(json(answer).type, `urn:latchkey:problem:${code}`, what)
}
