import type { ClientTable } from '../../tables/clients.ts'
import { type Check, checkOf } from '../checks.ts'
import type { Databases } from '../databases.ts'
import type { Runs } from '../runs.ts'
import { createRevocationRows } from './revocations.ts'

/** The clients of the embedded store. */
export function createClients(databases: Databases, { read, change }: Runs): ClientTable {
  const { clients } = databases
  const { record } = createRevocationRows(databases)
  return {
    createClient: (client, audit) =>
      change(audit, () => {
        if (clients.doesExist(client.id)) return false
        clients.put(client.id, client)
        return true
      }),
    findClient: (id) => read(() => clients.get(id)),
    listClients: ({ after, limit }) =>
      read(() => {
        const start = after !== undefined && { start: after, exclusiveStart: true }
        const page = [...clients.getRange({ ...start, limit })].map(({ value }) => value)
        const last = page.at(-1)
        return page.length === limit && last ? { clients: page, next: last.id } : { clients: page }
      }),
    replaceClient: (client, end, audit) =>
      change(audit, () => {
        const { id, generation } = client
        if (clients.get(id)?.generation !== generation - 1) return false
        clients.put(id, client)
        if (end) record({ kind: 'client', id, generation, revokedAt: end.now, expiresAt: end.expiresAt })
        return true
      }),
    deleteClient: (id, { now, expiresAt }, audit) =>
      change(audit, () => {
        const client = clients.get(id)
        if (!client) return false
        clients.remove(id)
        record({ kind: 'client', id, generation: client.generation + 1, revokedAt: now, expiresAt })
        return true
      }),
  }
}

/** What `store check` finds wrong with each entry. */
export function checkClients({ clients }: Databases): Check[] {
  return [
    checkOf('clients', clients, (id) => (clients.get(id)?.id === id ? undefined : 'the row does not fit its key')),
  ]
}
