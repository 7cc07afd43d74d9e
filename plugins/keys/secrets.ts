import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ConfigError } from '../../config.ts'
import { createHmacOf } from './hmac.ts'
import { ifMadeSecretIsGone, makeSecret, readMadeSecret, secretPath } from './secret-file.ts'

declare module 'fastify' {
  interface FastifyInstance {
    secrets: ReturnType<typeof createSecrets>
  }
}

const gcm = { name: 'aes-256-gcm', nonceBytes: 12, tagBytes: 16 } as const

/**
 * What is derived from AUTH_SECRET: a MAC key for each purpose, and a key that seals what is secret at rest.
 *
 * Each key is derived on its own (HKDF, RFC 5869), so that none can stand in for another. What AUTH_SECRET_PREVIOUS
 * made still verifies and opens.
 *
 * @param secrets the current one first
 */
export function createSecrets(secrets: string[]) {
  const derive = (purpose: string) =>
    secrets.map((secret) => Buffer.from(hkdfSync('sha256', secret, '', `latchkey ${purpose} v1`, 32)))
  const sealingKeys = derive('seal')

  return {
    /**
     * HMAC-SHA-256 under a key of its own.
     *
     * @param purpose separates the keys
     */
    mac(purpose: string) {
      const macs = derive(purpose).map(createHmacOf)
      return {
        sign: macs[0] as (data: Buffer) => Buffer,
        /** Compares in constant time, under the current secret and then the previous. */
        verify: (data: Buffer, mac: Buffer): boolean => macs.some((macOf) => timingSafeEqual(macOf(data), mac)),
      }
    },

    /** AES-256-GCM. @param context what the text is, bound to it: it opens as nothing else */
    seal(plaintext: Buffer, context: string): Buffer {
      const nonce = randomBytes(gcm.nonceBytes)
      const cipher = createCipheriv(gcm.name, sealingKeys[0] as Buffer, nonce).setAAD(Buffer.from(context))
      return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()])
    },

    /** @returns undefined when none of the secrets sealed it, and whether it was the previous one when one did */
    open(sealed: Uint8Array, context: string): { plaintext: Buffer; byPrevious: boolean } | undefined {
      const body = sealed.subarray(gcm.nonceBytes, -gcm.tagBytes)
      for (const [index, key] of sealingKeys.entries()) {
        const decipher = createDecipheriv(gcm.name, key, sealed.subarray(0, gcm.nonceBytes), {
          authTagLength: gcm.tagBytes,
        })
        decipher.setAAD(Buffer.from(context)).setAuthTag(sealed.subarray(-gcm.tagBytes))
        try {
          return { plaintext: Buffer.concat([decipher.update(body), decipher.final()]), byPrevious: index > 0 }
        } catch {
          // Not sealed by this one.
        }
      }
      return undefined
    },
  }
}

/** Whether there is something in a store that only its secret opens, or that only its secret lets go on. */
async function needsItsSecret(store: FastifyInstance['store']): Promise<boolean> {
  const keys = await store.listSigningKeys()
  if (keys.some(({ sealedPrivateKey }) => sealedPrivateKey !== undefined)) return true
  return (await store.exportRows('sessions', { limit: 1 })).rows.length > 0
}

/** The secret beside an embedded store; made where there is none and the store has never had one. */
async function secretBeside({ store, config: { AUTH_DATA_DIR: dataDir }, command }: FastifyInstance): Promise<string> {
  const there = readMadeSecret(dataDir)
  if (there !== undefined) return there
  if (await needsItsSecret(store)) {
    // Another first start may have made both meanwhile, the secret first.
    const made = readMadeSecret(dataDir)
    if (made !== undefined) return made
    throw new ConfigError(
      `AUTH_SECRET: expected the secret that the store in ${dataDir} was used with, and there is no ` +
        `${secretPath(dataDir)}: ${ifMadeSecretIsGone}`,
    )
  }
  // Nothing that a command does without a secret is derived from it.
  if (command && !command.makesSecret) return randomBytes(48).toString('base64url')
  makeSecret(dataDir)
  return readMadeSecret(dataDir) as string
}

export default fp(
  async (app: FastifyInstance) => {
    const { AUTH_SECRET, AUTH_SECRET_PREVIOUS } = app.config
    const current = AUTH_SECRET ?? (await secretBeside(app))
    app.decorate('secrets', createSecrets([current, ...(AUTH_SECRET_PREVIOUS ? [AUTH_SECRET_PREVIOUS] : [])]))
  },
  { name: 'secrets', dependencies: ['store'] },
)
