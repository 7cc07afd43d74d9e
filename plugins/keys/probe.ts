import type { FastifyInstance } from 'fastify'

/** The field of a request that a probe is in. */
export const probeField = 'latchkey-probe'

/** How long a probe is good: a proxy's log may have it. */
const goodForMs = 60_000
const form = /^(\d{1,15})\.([\w-]{43})$/

/**
 * Probes: a time, and its MAC under AUTH_SECRET. `latchkey doctor` shows by one that it belongs to the operator, and is
 * told how its request arrived, which nobody else is.
 */
export function createProbes({ mac }: Pick<FastifyInstance['secrets'], 'mac'>) {
  const { sign, verify } = mac('probe')
  return {
    make: (now: number): string => `${now}.${sign(Buffer.from(String(now))).toString('base64url')}`,
    /** @param text of the field, whatever a stranger wrote there */
    isGood(text: unknown, now: number): boolean {
      const [, time = '', code = ''] = form.exec(typeof text === 'string' ? text : '') ?? []
      if (code === '' || Math.abs(now - Number(time)) > goodForMs) return false
      return verify(Buffer.from(time), Buffer.from(code, 'base64url'))
    },
  }
}
