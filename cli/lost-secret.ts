import { makeSecret, readWhatIsLeft, secretPath } from '../plugins/keys/secret-file.ts'
import { confirm } from './ask.ts'
import type { Io, Options } from './command.ts'
import { tell } from './event-log.ts'
import { CommandError, exitCodes } from './exit.ts'
import type { Output } from './output.ts'
import { opener, openPlace, readPlace, readSettings, sealedSigner } from './places.ts'

const noticed = `What people notice:
- everyone logs in again: refresh tokens are worth nothing without the secret, and access tokens without their keys
- services fetch the JWKS again by themselves, within five minutes
- no code of an authenticator app is right any more: its users come in by a passkey or a recovery code, or you reset
  their factors
- clients of AUTH_CLIENTS_FILE go on with their secrets once the service was started with that file
Accounts, passwords, roles and clients stay.`

/**
 * `latchkey keys remove --all --lost-secret`: lets a store begin with a new secret, where the one that sealed its
 * signing keys is lost. Makes the secret first, then removes the keys: cut off in between, it is to be repeated.
 *
 * @returns the exit code
 * @throws {CommandError} where nothing is lost
 */
export async function removeLostKeys(io: Io, options: Options, output: Output): Promise<number> {
  const config = readSettings(io.env)
  const place = readPlace(undefined, config, io.env)
  const store = await openPlace(place, { mustExist: true })
  try {
    const dataDir = place.kind === 'lmdb' && config.AUTH_SECRET === undefined ? place.dir : undefined
    const left = config.AUTH_SECRET ?? (dataDir === undefined ? undefined : readWhatIsLeft(dataDir))
    const secrets = [left, config.AUTH_SECRET_PREVIOUS].filter((secret) => secret !== undefined)

    const keys = await store.listSigningKeys()
    const opens = opener(secrets)
    const lost = keys.filter((key) => key.sealedPrivateKey !== undefined && !opens(key))
    const signer = sealedSigner(keys, config)
    // Of a store that has had none, the service makes it.
    const makesSecret =
      dataDir !== undefined &&
      left === undefined &&
      (signer !== undefined || (await store.exportRows('sessions', { limit: 1 })).rows.length > 0)
    if (signer && !lost.includes(signer)) {
      throw new CommandError(
        'The secret is not lost: it opens the key that signs. Start the service. To change it, see docs/keys.md',
        exitCodes.problems,
      )
    }
    const does = [
      ...(lost.length > 0
        ? [`remove ${lost.length} signing key${lost.length === 1 ? '' : 's'} that no secret opens`]
        : []),
      ...(makesSecret ? [`make a new secret in ${secretPath(dataDir)}`] : []),
    ]
    if (does.length > 0) {
      if (!output.isJson) io.stderr.write(`${noticed}\n\nStop every process of the service first.\n`)
      await confirm(io, `${place.label}: ${does.join(', and ')}?`, options)
    }

    if (makesSecret) makeSecret(dataDir, { replaces: true })
    for (const { kid, alg } of lost) {
      await store.removeSigningKey(kid)
      await tell(io, store, 'key.lost', { kid, alg })
    }
    const removed = lost.map(({ kid }) => kid)
    if (output.isJson) output.print(JSON.stringify({ removed, secret: makesSecret ? 'made' : 'kept' }))
    else if (does.length === 0) output.print('There is nothing to remove: start the service.')
    else output.print(`Done: ${removed.length} removed${makesSecret ? ', and a secret made' : ''}. Start the service.`)
    return exitCodes.fine
  } finally {
    await store.close()
  }
}
