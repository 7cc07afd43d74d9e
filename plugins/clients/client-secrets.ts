import { timingSafeEqual } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { Lru } from 'toad-cache'
import type { Client } from '../../domain/client.ts'
import { hashSecret } from './clients.ts'

/** Declared secrets are kept under a MAC, generated ones as a plain hash. */
const macPrefix = 'hmac:'
const isDeclared = (hash: string) => hash.startsWith(macPrefix)
const cachedSecrets = 1_000

const equals = (a: string, b: string) => a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b))

/** Compares the secrets of clients with what the store keeps of them. */
export function createClientSecrets({ secrets, now }: Pick<FastifyInstance, 'secrets' | 'now'>) {
  const mac = secrets.mac('client secret')
  /** by the MAC of a declared secret, its hash once it was presented: a hash takes a fifth of a MAC */
  const hashes = new Lru<string>(cachedSecrets)

  function isDeclaredAs(kept: string, secret: string, hash: string): boolean {
    if (equals(hashes.get(kept) ?? '', hash)) return true
    const isRight = mac.verify(Buffer.from(secret), Buffer.from(kept.slice(macPrefix.length), 'base64url'))
    if (isRight) hashes.set(kept, hash)
    return isRight
  }

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
      const hash = hashSecret(secret)
      let isRight = false
      for (const { hash: kept, expiresAt = Number.POSITIVE_INFINITY } of client?.secrets ?? []) {
        if (now() >= expiresAt) continue
        isRight ||= isDeclared(kept) ? isDeclaredAs(kept, secret, hash) : equals(kept, hash)
      }
      return isRight && client?.disabledAt === undefined
    },
  }
}
