import { timingSafeEqual } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { Client } from '../../domain/client.ts'
import { hashSecret } from './clients.ts'

/** Declared secrets are kept under a MAC, generated ones as a plain hash. */
const macPrefix = 'hmac:'
const isDeclared = (hash: string) => hash.startsWith(macPrefix)

/** Compares the secrets of clients with what the store keeps of them. */
export function createClientSecrets({ secrets, now }: Pick<FastifyInstance, 'secrets' | 'now'>) {
  const mac = secrets.mac('client secret')

  return {
    /**
     * What the store keeps of a secret that an operator chose: without AUTH_SECRET even a weak one cannot be guessed
     * from it.
     */
    hashDeclared: (secret: string): string => macPrefix + mac.sign(Buffer.from(secret)).toString('base64url'),

    /** Whether a client has a secret that could be guessed: a generated one has 256 random bits. */
    isGuessable: (client: Client): boolean => client.secrets.some(({ hash }) => isDeclared(hash)),

    /** Whether a secret is one of an enabled client's, and not expired. Each is compared in constant time. */
    isSecretOf(client: Client | undefined, secret: string): boolean {
      const hash = Buffer.from(hashSecret(secret))
      let isRight = false
      for (const { hash: kept, expiresAt = Number.POSITIVE_INFINITY } of client?.secrets ?? []) {
        if (now() >= expiresAt) continue
        isRight ||= isDeclared(kept)
          ? mac.verify(Buffer.from(secret), Buffer.from(kept.slice(macPrefix.length), 'base64url'))
          : kept.length === hash.length && timingSafeEqual(Buffer.from(kept), hash)
      }
      return isRight && client?.disabledAt === undefined
    },
  }
}
