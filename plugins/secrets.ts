import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto'
import { closeSync, existsSync, fsyncSync, linkSync, mkdirSync, openSync, readFileSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type Config, ConfigError } from '../config.ts'

declare module 'fastify' {
  interface FastifyInstance {
    secrets: ReturnType<typeof createSecrets>
  }
}

const minCharacters = 32
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
  const derive = (purpose: string) => secrets.map((secret) => Buffer.from(hkdfSync('sha256', secret, '', `latchkey ${purpose} v1`, 32)))
  const sealingKeys = derive('seal')

  return {
    /**
     * HMAC-SHA-256 under a key of its own.
     *
     * @param purpose separates the keys
     */
    mac(purpose: string) {
      const keys = derive(purpose)
      const compute = (key: Buffer, data: Buffer) => createHmac('sha256', key).update(data).digest()
      return {
        sign: (data: Buffer): Buffer => compute(keys[0] as Buffer, data),
        /** Compares in constant time, under the current secret and then the previous. */
        verify: (data: Buffer, mac: Buffer): boolean => keys.some((key) => timingSafeEqual(compute(key, data), mac)),
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
        const decipher = createDecipheriv(gcm.name, key, sealed.subarray(0, gcm.nonceBytes), { authTagLength: gcm.tagBytes })
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

/**
 * The secrets that the settings name, the current one first; made and kept in the data directory when they name none.
 *
 * @throws {ConfigError} when the data directory cannot be used
 */
export function readSecrets({ AUTH_SECRET, AUTH_SECRET_PREVIOUS, AUTH_DATA_DIR }: Config): string[] {
  return [AUTH_SECRET ?? generatedSecret(AUTH_DATA_DIR), ...(AUTH_SECRET_PREVIOUS ? [AUTH_SECRET_PREVIOUS] : [])]
}

/** The winner of a hard link is the one secret, whichever of several first starts it was; a crash never leaves half a file. */
function generatedSecret(dataDir: string): string {
  const path = join(dataDir, 'secret')
  const draft = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`
  try {
    if (!existsSync(path)) {
      mkdirSync(dataDir, { recursive: true, mode: 0o700 })
      const file = openSync(draft, 'wx', 0o600)
      writeSync(file, `${randomBytes(48).toString('base64url')}\n`)
      fsyncSync(file)
      closeSync(file)
      try {
        linkSync(draft, path)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      }
      unlinkSync(draft)
      syncDirectory(dataDir)
    }
    const secret = readFileSync(path, 'utf8').trim()
    if (secret.length >= minCharacters) return secret
  } catch (error) {
    throw new ConfigError(
      `AUTH_DATA_DIR: expected a directory that can be written, got ${(error as NodeJS.ErrnoException).code} for ${dataDir}`,
    )
  }
  throw new ConfigError(`AUTH_DATA_DIR: expected at least ${minCharacters} characters in ${path}`)
}

/** A new name in a directory is on disk only when the directory is. */
function syncDirectory(path: string): void {
  const directory = openSync(path, 'r')
  fsyncSync(directory)
  closeSync(directory)
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('secrets', createSecrets(readSecrets(app.config)))
  },
  { name: 'secrets' },
)
