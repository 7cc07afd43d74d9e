import type { ClientTable } from '../../tables/clients.ts'
import { type Fields, tables } from '../columns.ts'
import { plan, prepare, type Runs } from '../statement.ts'
import { recorded, recording, telling, toldValues } from '../telling.ts'

const { clients } = tables

/**
 * Puts a client in the place of the one of the generation before.
 *
 * @param first number of its first value; they come in the order of the columns
 */
const replacingClient = (first: number) => `
      UPDATE latchkey_clients SET ${clients.assignments(first)}
      WHERE id = ${clients.parameter('id', first)} AND generation = ${clients.parameter('generation', first)} - 1`

const prepared = prepare({
  createClient: telling(
    clients.count + 1,
    `
    INSERT INTO latchkey_clients (${clients.list}) VALUES (${clients.parameters})
    ON CONFLICT DO NOTHING`,
  ),
  findClient: `SELECT ${clients.list} FROM latchkey_clients WHERE id = $1`,
  replaceClient: telling(clients.count + 1, replacingClient(1)),
  replaceClientAndEnd: recording(
    4 + clients.count,
    `
    ended AS (${replacingClient(4)}
      RETURNING 'client' AS kind, id, generation, NULL::uuid AS except_session_id
    )`,
  ),
  // One generation more than its newest tokens: a client that is created later under this id begins beyond it.
  deleteClient: recording(
    5,
    `
    ended AS (
      DELETE FROM latchkey_clients
      WHERE id = $4::text
      RETURNING 'client' AS kind, id, generation + 1 AS generation, NULL::uuid AS except_session_id
    )`,
  ),
})

const planned = plan({
  listClients: `SELECT ${clients.list} FROM latchkey_clients WHERE id > $1::text ORDER BY id LIMIT $2`,
})

export const statements = { ...prepared, ...planned }

/** The clients of the PostgreSQL store. */
export function createClients({ run, runForOne, hadEffect }: Runs): ClientTable {
  return {
    createClient: (client, audit) =>
      hadEffect(statements.createClient, ...clients.values(client), ...toldValues(audit, true)),
    async findClient(id) {
      const row = await runForOne(statements.findClient, id)
      return row && clients.read(row)
    },
    async listClients({ after = '', limit }) {
      const page = (await run<Fields>(statements.listClients, after, limit)).map(clients.read)
      const last = page.at(-1)
      return page.length === limit && last ? { clients: page, next: last.id } : { clients: page }
    },
    replaceClient: (client, end, audit) => {
      const values = [...clients.values(client), ...toldValues(audit, true)]
      return end
        ? hadEffect(statements.replaceClientAndEnd, ...recorded(end.now, end.expiresAt), ...values)
        : hadEffect(statements.replaceClient, ...values)
    },
    deleteClient: (id, { now, expiresAt }, audit) =>
      hadEffect(statements.deleteClient, ...recorded(now, expiresAt), id, ...toldValues(audit, true)),
  }
}
