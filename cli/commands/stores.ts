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
  about: 'copy and check stores',
  commands: [
    {
      usage: 'copy',
      about: 'bring one store up to date with another; safe to repeat',
      options: {
        '--from <store>': { about: 'the source', isRequired: true },
        '--to <store>': { about: 'the target', isRequired: true },
        '--delete': 'delete rows of the target that the source does not have',
      },
      help,
      run: async (io, options, output) => (await import('../store-copy.ts')).storeCopy(io, options, output),
    },
    {
      usage: 'check',
      about: 'read every row and report what is wrong',
      options: { '--store <store>': 'the store of the settings by default' },
      help,
      run: async (io, options, output) => (await import('../store-check.ts')).storeCheck(io, options, output),
    },
  ],
}
