import type { AdminCommand, FreeCommand, Group } from '../command.ts'
import { audit } from './audit.ts'
import { bench } from './bench.ts'
import { clients } from './clients.ts'
import { doctor } from './doctor.ts'
import { explain } from './explain.ts'
import { keys } from './keys.ts'
import { mail } from './mail.ts'
import { secrets } from './secrets.ts'
import { stores } from './stores.ts'
import { sessions, users } from './users.ts'
import { webhooks } from './webhooks.ts'

const serve: FreeCommand = {
  usage: 'serve',
  about: 'start the service',
  hasNoJson: true,
  run: async (io) => (await import('../serve.ts')).serve(io),
}

/** Every command of `latchkey`, in the order of its help. */
export const commands: (Group | AdminCommand | FreeCommand)[] = [
  serve,
  users,
  sessions,
  clients,
  keys,
  secrets,
  webhooks,
  mail,
  stores,
  audit,
  explain,
  doctor,
  bench,
]
