import type { Group } from '../command.ts'

const help = `
A store is one of
  lmdb                  the embedded store in AUTH_DATA_DIR
  lmdb:DIR, ./DIR       the embedded store in a directory
  pg                    PostgreSQL at DATABASE_URL, or DATABASE_URL_FILE
  pg:NAME               PostgreSQL at the URL in the environment variable NAME
  postgres://…          a URL without a password (it may be in PGPASSWORD)`

export const stores: Group = {
  name: 'store',
  about: 'move and check stores',
  commands: [
    {
      usage: 'copy',
      about: 'bring one store up to date with another; safe to repeat',
      options: {
        '--from <store>': { about: 'where from', isRequired: true },
        '--to <store>': { about: 'where to', isRequired: true },
        '--delete': 'remove from the target what the source does not have (any more)',
      },
      help,
      run: async (io, options, output) => (await import('../store-copy.ts')).storeCopy(io, options, output),
    },
    {
      usage: 'check',
      about: 'read everything and say what is wrong',
      options: { '--store <store>': 'which one; that of the settings when not given' },
      help,
      run: async (io, options, output) => (await import('../store-check.ts')).storeCheck(io, options, output),
    },
  ],
}
