import { bearerLoad, formLoad, type Load, loginLoad, refreshLoad, type Tokens } from '../load.ts'

/** What the scenarios send, by name. @param client may introspect and has tokens of its own */
export function loadsOf(users: string[], sessions: Tokens[], client: { id: string; secret: string }) {
  const basic = { authorization: `Basic ${Buffer.from(`${client.id}:${client.secret}`).toString('base64')}` }
  const tokens = sessions.map(({ access_token }) => `token=${access_token}`)
  return {
    refresh: refreshLoad(sessions),
    login: loginLoad(users),
    'client-credentials': formLoad('/token', Array(users.length).fill('grant_type=client_credentials'), basic),
    introspect: formLoad('/introspect', tokens, basic),
    protected: bearerLoad('/protected', sessions),
  } satisfies Record<string, Load>
}
