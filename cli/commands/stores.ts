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
  about: 'copy, check, back up and restore stores',
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
    {
      usage: 'backup <dir or file>',
      about: 'write a consistent backup, beside a running service; - for stdout',
      options: { '--store <store>': 'the store of the settings by default' },
      help: `
One file, which "store restore" puts into either kind of store. It is read back before it gets its name. It is as secret
as the store, and AUTH_SECRET is not in it: keep that elsewhere.
${help}`,
      run: async (...given) => (await import('../store-backup.ts')).storeBackup(...given),
    },
    {
      usage: 'restore <file>',
      about: 'fill an empty store from a backup, all of it or nothing; - for stdin',
      options: {
        '--store <store>': 'the store of the settings by default',
        '--replace': 'put the backup in the place of what is there',
        '--end-sessions': 'leave the sessions out: all users log in again',
        '--dry-run': 'read and check the backup, and write nothing',
        '--yes': 'skip the confirmation of --replace',
      },
      help: `
Stop the service first. Access tokens from before are refused, sessions go on; what was changed since the backup is as
it was. The secret has to be the one that the backup was made beside.
${help}`,
      run: async (...given) => (await import('../store-restore.ts')).storeRestore(...given),
    },
  ],
}
