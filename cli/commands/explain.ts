import type { Json } from '../admin.ts'
import type { AdminCommand } from '../command.ts'
import { fields, when } from '../output.ts'

const found = ({ seen, limit, setting }: Json) =>
  [seen, limit !== undefined && `limit ${limit}`, setting].filter((part) => part || part === 0).join(', ')

export const explain: AdminCommand = {
  usage: 'explain <id>',
  about: 'say why a request was refused, by the x-request-id of its answer',
  help: `
The check that decided comes first, with what was seen, the limit, and the setting that decides about it.
docs/explain.md says what each looks at, docs/errors.md what to do about the code.

Failed logins and answers 403, 409, 429 and 5xx are in the store, for AUTH_EXPLAIN_RETENTION. Of other answers the
running service alone knows why: ask it for GET /admin/explain/ID.`,
  act: ({ call }, { args: [id = ''] }) => call('GET', `/admin/explain/${encodeURIComponent(id)}`),
  text: ({ request_id, at, route, status, code, checks }) =>
    [
      fields({ request: request_id, at: when(at), route, answer: `${status} ${code}` }),
      fields(Object.fromEntries(checks.map((check: Json) => [check.name, found(check)]))),
    ].join('\n\n'),
}
