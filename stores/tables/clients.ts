import type { Audit } from '../../domain/audit.ts'
import type { Client } from '../../domain/client.ts'
import type { End } from '../../domain/lifetimes.ts'

/** What is asked of the table of clients, by their `client_id`. */
export interface ClientTable {
  /** Adds a client. @returns false when the id is taken */
  createClient(client: Client, audit?: Audit): Promise<boolean>
  findClient(id: string): Promise<Client | undefined>
  /**
   * Puts a client in the place of the one with its id, which has to be of the generation before.
   * @param end to have the access tokens of earlier generations revoked
   * @returns false when it is of another generation by now, or gone
   */
  replaceClient(client: Client, end?: End, audit?: Audit): Promise<boolean>
  /** Clients by id, as the database sorts. @param page `after` is the `next` of the page before */
  listClients(page: { after?: string; limit: number }): Promise<{ clients: Client[]; next?: string }>
  /** Removes a client and records the revocation. @returns false when there was none */
  deleteClient(id: string, end: End, audit?: Audit): Promise<boolean>
}
