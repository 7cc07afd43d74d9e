import type { FreeCommand } from '../command.ts'

const help = `
It changes nothing, and works before the first start, beside a running service and when the database is away. Run it as
the user of the service, with the settings of the service.

Exit codes
  0 all is well   1 warnings   2 something failed   64 usage error

With --url, LATCHKEY_CLIENT_ID and LATCHKEY_CLIENT_SECRET name a client that may follow revocations.
docs/doctor.md explains each line.`

export const doctor: FreeCommand = {
  usage: 'doctor',
  about: 'check settings, store, keys, proxy and machine, and say what to change',
  options: { '--url <url>': 'look at a running service from outside, without its settings' },
  help,
  run: async (io, options, output) => (await import('../doctor.ts')).doctor(io, options, output),
}
