import type { Admin, Json } from '../admin.ts'
import type { AdminCommand, Group } from '../command.ts'
import { CommandError, exitCodes } from '../exit.ts'
import { printable, when } from '../output.ts'

const isNamed = (name: string) => (webhook: Json) => [webhook.id, webhook.url, new URL(webhook.url).host].includes(name)

/** The webhooks that are meant: by id, URL or host; all without a name. */
async function findWebhooks({ call }: Admin, name?: string): Promise<Json[]> {
  const { webhooks } = await call('GET', '/admin/webhooks')
  const found = name === undefined ? webhooks : webhooks.filter(isNamed(name.replace(/\?.*/, '')))
  if (found.length > 0) return found
  const what = name === undefined ? 'There are no webhooks' : `There is no webhook ${printable(name)}`
  throw new CommandError(`${what}: they are read from AUTH_WEBHOOKS_FILE`, exitCodes.problems)
}

/** Does something with each webhook that is meant. @returns them, as they are after it */
const onEach =
  (path: (webhook: Json) => string, bodyOf: (options: Json) => object | undefined): NonNullable<AdminCommand['act']> =>
  async (admin, { found, options }) => {
    for (const webhook of found) await admin.call('POST', path(webhook), bodyOf(options))
    const ids = found.map(({ id }: Json) => id)
    const webhooks = (await findWebhooks(admin)).filter(({ id }) => ids.includes(id))
    return { webhooks }
  }

const lines = (webhooks: Json[], words: (webhook: Json) => string) => webhooks.map(words).join('\n')

export const webhooks: Group = {
  name: 'webhook',
  about: 'see how the webhooks of AUTH_WEBHOOKS_FILE do, and mend them',
  commands: [
    {
      usage: 'list',
      about: 'list webhooks, and how far each has been told',
      readsWebhooks: true,
      list: () => ({
        path: '/admin/webhooks',
        member: 'webhooks',
        columns: {
          id: 'id',
          url: 'url',
          state: 'state',
          behind: ({ behind_seconds: seconds }) => (seconds > 0 ? `${seconds} s` : ''),
          'last taken': ({ delivered_at }) => when(delivered_at),
          'last failure': ({ failure }) => (failure ? `${failure.reason} (${failure.tries})` : ''),
          'next try': ({ failure }) => when(failure?.next_try_at),
        },
      }),
    },
    {
      usage: 'resend [id, url or host]',
      about: 'send all events since a time again; those of all webhooks where none is named',
      options: { '--since <time>': { about: 'a length of time, such as 2h, or a time', isRequired: true } },
      help: `
They are sent in order and with the ids that they had, so a receiver that keeps those knows them again; then follow the
events that it has not had. With "--since 1s" it goes on with now: what it has not had is passed over.

Examples
  latchkey webhook resend --since 2h
  latchkey webhook resend hooks.example.com --since 2026-11-26T08:00:00Z`,
      readsWebhooks: true,
      find: findWebhooks,
      act: onEach(
        ({ id }) => `/admin/webhooks/${id}/resend`,
        ({ since }) => ({ since }),
      ),
      text: ({ webhooks }) =>
        lines(webhooks, ({ url, state }) =>
          state === 'disabled' ? `${url} is disabled: enable it, and it is sent again.` : `${url} is sent again.`,
        ),
    },
    {
      usage: 'enable [id, url or host]',
      about: 'go on with the events that it has not had, at once; all webhooks where none is named',
      readsWebhooks: true,
      find: findWebhooks,
      act: onEach(
        ({ id }) => `/admin/webhooks/${id}/enable`,
        () => undefined,
      ),
      text: ({ webhooks }) =>
        lines(webhooks, ({ url, behind_seconds }) => `${url} is enabled, ${behind_seconds} s behind.`),
    },
  ],
}
