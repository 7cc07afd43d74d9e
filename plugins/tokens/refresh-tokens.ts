import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    refreshTokens: ReturnType<typeof createRefreshTokens>
  }
}

const prefix = 'lkr_'
const layout = { id: [0, 16], counter: [16, 22], mac: [22, 54] } as const
const tokenBytes = 54
const counterAt: [offset: number, byteLength: number] = [layout.counter[0], layout.counter[1] - layout.counter[0]]
const wellFormed = new RegExp(`^${prefix}[A-Za-z0-9_-]{${Math.ceil((tokenBytes * 4) / 3)}}$`)

/**
 * Refresh tokens: `lkr_` and base64url of the session id (16 bytes), a counter (6 bytes) and an HMAC-SHA-256 of both.
 *
 * Nothing of a token is stored. The MAC shows a token that this server did not make, before the store is asked.
 */
function createRefreshTokens({ secrets }: Pick<FastifyInstance, 'secrets'>) {
  const mac = secrets.mac('refresh token')

  return {
    /** @param sessionId UUID @param counter the count of rotations so far */
    encode(sessionId: string, counter: number): string {
      const token = Buffer.allocUnsafe(tokenBytes)
      token.write(sessionId.replaceAll('-', ''), 'hex')
      token.writeUIntBE(counter, ...counterAt)
      token.set(mac.sign(token.subarray(0, layout.mac[0])), layout.mac[0])
      return prefix + token.toString('base64url')
    },

    /** @returns undefined for a text that this server did not make as a refresh token */
    decode(token: string): { sessionId: string; counter: number } | undefined {
      if (!wellFormed.test(token)) return undefined
      const bytes = Buffer.from(token.slice(prefix.length), 'base64url')
      const body = bytes.subarray(0, layout.mac[0])
      if (!mac.verify(body, bytes.subarray(...layout.mac))) return undefined
      const hex = body.toString('hex', ...layout.id)
      return {
        sessionId: `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`,
        counter: body.readUIntBE(...counterAt),
      }
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('refreshTokens', createRefreshTokens(app))
  },
  { name: 'refresh-tokens', dependencies: ['secrets'] },
)
