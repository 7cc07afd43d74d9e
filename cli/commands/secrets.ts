import type { Group } from '../command.ts'

export const secrets: Group = {
  name: 'secret',
  about: 'change AUTH_SECRET without logging anyone out',
  commands: [
    {
      usage: 'rotate',
      about: 'seal anew, under AUTH_SECRET, what AUTH_SECRET_PREVIOUS has sealed',
      help: `
To be run when every process has been started with the new secret as AUTH_SECRET and the old one as
AUTH_SECRET_PREVIOUS. It may run beside them, be cut off, and be repeated. Then it says until when AUTH_SECRET_PREVIOUS
is needed: until every session has been refreshed once. docs/keys.md has the change step by step.`,
      run: async (io, options, output) => (await import('../secret.ts')).secretRotate(io, options, output),
    },
    {
      usage: 'status',
      about: 'tell what is under which secret, and whether AUTH_SECRET_PREVIOUS may go',
      help: '\nReads and changes nothing.',
      run: async (io, options, output) => (await import('../secret.ts')).secretStatus(io, options, output),
    },
  ],
}
