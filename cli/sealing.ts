import type { SigningKeyRecord } from '../domain/signing-key.ts'
import { createSecrets } from '../plugins/keys/secrets.ts'
import { sealContext } from '../plugins/keys/signing-keys.ts'

/** @returns whether a key opens under one of the secrets */
export function opener(secrets: string[]): (key: SigningKeyRecord) => boolean {
  const { open } = createSecrets(secrets)
  return ({ kid, sealedPrivateKey }) =>
    sealedPrivateKey !== undefined && open(sealedPrivateKey, sealContext(kid)) !== undefined
}
