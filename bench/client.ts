/* The few calls that every benchmark makes before it measures. */
export const form = { 'content-type': 'application/x-www-form-urlencoded' }
export const password = 'correct horse battery staple'

export interface Tokens {
  access_token: string
  refresh_token: string
}

export const bearer = (tokens: Tokens) => ({ authorization: `Bearer ${tokens.access_token}` })
export const asForm = (refreshToken: string) => `grant_type=refresh_token&refresh_token=${refreshToken}`

export async function signUp(url: string, username: string): Promise<void> {
  const response = await fetch(`${url}/signup`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ username, password }),
  })
  if (response.status !== 201) throw new Error(`signup: ${response.status} ${await response.text()}`)
}

export async function logIn(url: string, username: string, ownPassword = password): Promise<Tokens> {
  const body = new URLSearchParams({ username, password: ownPassword })
  const response = await fetch(`${url}/token`, { method: 'POST', body })
  if (response.status !== 200) throw new Error(`login: ${response.status} ${await response.text()}`)
  return (await response.json()) as Tokens
}

export async function refresh(url: string, tokens: Tokens): Promise<void> {
  const response = await fetch(`${url}/token`, { method: 'POST', headers: form, body: asForm(tokens.refresh_token) })
  if (response.status !== 200) throw new Error(`refresh: ${response.status} ${await response.text()}`)
  Object.assign(tokens, await response.json())
}
