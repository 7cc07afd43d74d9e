import { administrators } from './administrators.ts'
import { appClients } from './app-clients.ts'
import type { Check } from './check.ts'
import { clock } from './clock.ts'
import { database } from './database.ts'
import { disk } from './disk.ts'
import type { Facts } from './facts.ts'
import { files } from './files.ts'
import { hashing } from './hashing.ts'
import { issuer } from './issuer.ts'
import { keys } from './keys.ts'
import { machine } from './machine.ts'
import { mail } from './mail.ts'
import { passkeys } from './passkeys.ts'
import { proxies } from './proxies.ts'
import { secret } from './secret.ts'
import { settings } from './settings.ts'
import { store } from './store.ts'
import { webhooks } from './webhooks.ts'

/** Every check of a service by its settings, in the order of the report. */
export const checks: Check<Facts>[] = [
  ...settings,
  ...secret,
  ...files,
  ...machine,
  ...disk,
  ...database,
  ...store,
  ...administrators,
  ...appClients,
  ...keys,
  ...clock,
  ...issuer,
  ...proxies,
  ...webhooks,
  ...mail,
  ...passkeys,
  ...hashing,
]
