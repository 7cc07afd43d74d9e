import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import { password } from './basics.ts'

/* A browser without script, in front of the app: it keeps cookies, follows redirects of ours, and sends forms. */

const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" }
const decode = (text: string) => text.replace(/&(amp|lt|gt|quot|#39);/g, (_, name: string) => entities[name] as string)
const attribute = (tag: string, name: string) => {
  const found = new RegExp(` ${name}="([^"]*)"`).exec(tag)
  return found && decode(found[1] as string)
}

/** Whether a route is for people in a browser: what it refuses, it refuses by a page. */
export const isPage = (url: string): boolean =>
  /^\/($|pages\/|authorize$|account|sign-|consent$|device$|forgot$|reset$|verify-email$|undo-email$)/.test(url)

export interface PageForm {
  action: string
  method: string
  /** hidden fields, and those with a value */
  fields: Record<string, string>
  names: string[]
  /** of buttons with a name */
  buttons: { name: string; value: string }[]
}

/** The forms of a page. */
export const formsOf = ({ body }: { body: string }): PageForm[] =>
  [...body.matchAll(/<form\b([^>]*)>(.*?)<\/form>/gs)].map(([, tag = '', inside = '']) => {
    const inputs = [...inside.matchAll(/<(?:input|textarea|select)\b[^>]*>/g)].map(([input]) => input)
    const named = inputs.filter((input) => attribute(input, 'name') !== null && !/ type="submit"/.test(input))
    return {
      action: attribute(tag, 'action') ?? '',
      method: attribute(tag, 'method') ?? 'get',
      names: named.map((input) => attribute(input, 'name') as string),
      fields: Object.fromEntries(
        named
          .filter(
            (input) =>
              attribute(input, 'value') !== null && !(/ type="checkbox"/.test(input) && !/ checked/.test(input)),
          )
          .map((input) => [attribute(input, 'name') as string, attribute(input, 'value') as string]),
      ),
      buttons: [...inside.matchAll(/<button\b[^>]*>/g)].flatMap(([button]) => {
        const name = attribute(button, 'name')
        return name === null ? [] : [{ name, value: attribute(button, 'value') ?? '' }]
      }),
    }
  })

export type Opened = LightMyRequestResponse & { url: string }

/** What a browser is in front of. */
interface Site {
  config: { AUTH_ISSUER: string }
  publicPath: string
  inject(request: InjectOptions): Promise<LightMyRequestResponse>
}

/** A service that listens somewhere, in front of which there is no proxy, with the issuer that there is by default. */
export const behind = (origin: string): Site => ({
  config: { AUTH_ISSUER: 'http://localhost:3000' },
  publicPath: '',
  inject: async ({ method, url, headers, payload }) => {
    const answer = await fetch(`${origin}${url}`, {
      ...{ method: method as string, headers: headers as Record<string, string>, redirect: 'manual' },
      ...(payload !== undefined && { body: payload as string }),
    })
    const cookies = answer.headers.getSetCookie().map((text) => {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(text) ?? []
      return { name, value, ...(/max-age=0/i.test(text) && { maxAge: 0 }) }
    })
    const told = { statusCode: answer.status, headers: Object.fromEntries(answer.headers), cookies }
    return { ...told, body: await answer.text() } as unknown as LightMyRequestResponse
  },
})

/** @param headers of each request */
export function openBrowser(app: Site | FastifyInstance, headers: Record<string, string> = {}) {
  const jar = new Map<string, string>()
  const { origin } = new URL(app.config.AUTH_ISSUER)

  async function request(method: 'GET' | 'POST', url: string, form?: Record<string, string>): Promise<Opened> {
    const path = url.startsWith(origin) ? url.slice(origin.length) : url
    // A proxy in front takes the path of the issuer away.
    const inside = app.publicPath !== '' && path.startsWith(app.publicPath) ? path.slice(app.publicPath.length) : path
    const answer = await app.inject({
      method,
      url: inside,
      headers: {
        ...headers,
        ...(jar.size > 0 && { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; ') }),
        ...(form && { 'content-type': 'application/x-www-form-urlencoded' }),
        ...(form && { 'sec-fetch-site': 'same-origin' }),
      },
      ...(form && { payload: new URLSearchParams(form).toString() }),
    })
    for (const { name, value, maxAge, expires } of answer.cookies) {
      if (value === '' || maxAge === 0 || (expires && expires.getTime() <= 0)) jar.delete(name)
      else jar.set(name, value)
    }
    return Object.assign(answer, { url: path })
  }

  /** Follows redirects while they lead to us; the answer that leads elsewhere is returned. */
  async function follow(answer: Opened): Promise<Opened> {
    const { location } = answer.headers
    const isOurs = typeof location === 'string' && (location.startsWith('/') || location.startsWith(`${origin}/`))
    return answer.statusCode === 303 && isOurs ? follow(await request('GET', location)) : answer
  }

  const browser = {
    jar,
    request,
    follow,
    open: async (url: string) => follow(await request('GET', url)),
    /** Sends the form of a page that has such fields, or is sent to such an address. */
    async submit(page: Opened, values: Record<string, string>, action?: string): Promise<Opened> {
      const forms = formsOf(page)
      const isIt = ({ action: to, names, buttons }: PageForm) =>
        action === undefined
          ? Object.keys(values).every((name) => names.includes(name) || buttons.some((button) => button.name === name))
          : new URL(to, origin).pathname.endsWith(action)
      const form = forms.find(isIt)
      if (!form)
        throw new Error(`no form for ${action ?? Object.keys(values)} on ${page.url}: ${page.body.slice(0, 2_000)}`)
      const to = form.action === '' ? page.url : form.action
      const sent = { ...form.fields, ...values }
      // What stands in the action of a form that is sent by GET is not sent.
      if (form.method === 'get') return browser.open(`${new URL(to, origin).pathname}?${new URLSearchParams(sent)}`)
      return follow(await request('POST', to, sent))
    },
    /** Signs in at the page that is open, or at `/sign-in`. */
    async signIn(username: string, secret = password, at?: Opened): Promise<Opened> {
      return browser.submit(at ?? (await browser.open('/sign-in')), { username, password: secret })
    },
  }
  return browser
}

/** Where an answer leads, and what it says there. */
export function answerOf({ headers }: LightMyRequestResponse) {
  const to = new URL(String(headers['location']))
  return { to: `${to.protocol}//${to.host}${to.pathname}`, ...Object.fromEntries(to.searchParams) } as Record<
    string,
    string
  >
}
