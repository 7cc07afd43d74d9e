import { isUuid } from '../../domain/ids.ts'
import type { Admin, Json } from '../admin.ts'
import { CommandError, exitCodes } from '../exit.ts'
import { printable } from '../output.ts'

/**
 * The user of a name or an id. Anybody may choose somebody's id as a name: where an argument is both, it is refused.
 *
 * @throws {CommandError} when there is none, or there are two
 */
export async function findUser({ call }: Admin, nameOrId: string): Promise<Json> {
  const { users } = await call('GET', `/admin/users?username=${encodeURIComponent(nameOrId)}`)
  const [named] = users
  const identified = isUuid(nameOrId) ? await call('GET', `/admin/users/${nameOrId}`).catch(ignoreRefusal) : undefined
  if (named && identified) {
    const others = `that of ${identified.username}, and the name of ${named.id}`
    throw new CommandError(`This is an id, ${others}: write ${identified.username} or ${named.id}`, exitCodes.problems)
  }
  if (named || identified) return named ?? identified
  throw new CommandError(`There is no user ${printable(nameOrId)}`, exitCodes.problems)
}

function ignoreRefusal(error: unknown): undefined {
  if (!(error instanceof CommandError && error.exitCode === exitCodes.problems)) throw error
}
