import { HOTP, Secret, TOTP } from 'otpauth'
import { isFuture } from '../../domain/time.ts'

/** What every authenticator app works with; many ignore anything else that the URI says. */
const digits = 6
const periodSeconds = 30
/** The least that RFC 4226 §4 recommends, and what SHA-1 makes full use of. */
const secretBytes = 20
/** Steps before and after the present one, for clocks that differ and people who type slowly, RFC 6238 §5.2. */
const window = 1

/** Makes the secret of an authenticator app. @returns base32 of 160 random bits */
export const newTotpSecret = (): string => new Secret({ size: secretBytes }).base32

/**
 * The key URI that an authenticator app takes up, as text or as a QR code.
 *
 * @param of the secret in base32, the name of this service, and that of the user's account there
 * @see https://github.com/google/google-authenticator/wiki/Key-Uri-Format
 */
export function totpUri({ secret, issuer, account }: { secret: string; issuer: string; account: string }): string {
  // Apps split the label at its first colon, whether it is encoded or not.
  const of = { issuer: issuer.replaceAll(':', ' '), label: account, secret, digits, period: periodSeconds }
  return new TOTP(of).toString()
}

/** A secret as its user is shown it, once: as text, as a key URI, and as a picture of that. @param of as `totpUri` has it */
export async function showTotp(
  of: Parameters<typeof totpUri>[0],
): Promise<{ secret: string; uri: string; qr: string }> {
  const uri = totpUri(of)
  return { secret: of.secret, uri, qr: await qrOf(uri) }
}

/** Draws a text as a QR code. @returns one `<svg>`, black on white, with the quiet zone that scanners need */
export async function qrOf(text: string): Promise<string> {
  const { default: encode } = await import('qr')
  const rows = encode(text, 'raw', { ecc: 'medium', border: 4 })
  const bars = rows.flatMap((row, y) => {
    const line = row.map((isDark) => (isDark ? '#' : ' ')).join('')
    return [...line.matchAll(/#+/g)].map(({ index, 0: { length } }) => `M${index} ${y}h${length}v1h-${length}z`)
  })
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${rows.length} ${rows.length}" shape-rendering="crispEdges">` +
    `<path fill="#fff" d="M0 0h${rows.length}v${rows.length}H0z"/><path fill="#000" d="${bars.join('')}"/></svg>`
  )
}

/** What an authenticator app has, what was typed, with spaces or without, and when: milliseconds since the epoch. */
interface Typed {
  /** base32 */
  secret: string
  code: string
  now: number
}

const stepAt = (now: number) => Math.floor(now / 1000 / periodSeconds)

/** How many steps from now a code is of, where that is not more than so many. */
function stepsOff({ secret, code, now }: Typed, window: number): number | undefined {
  const token = code.replaceAll(' ', '')
  // The library compares bytes, and throws where other digits than ASCII's have more of them.
  if (!/^[0-9]{6}$/.test(token)) return undefined
  return HOTP.validate({ token, secret: Secret.fromBase32(secret), digits, counter: stepAt(now), window }) ?? undefined
}

/**
 * Judges a code of an authenticator app, RFC 6238.
 *
 * It does not keep the code from being taken again: whoever accepts the step keeps it, in one step with what is given for
 * it, and passes it as `after` from then on.
 *
 * @param of.after the step of the last code that was taken, or -1
 * @returns the step whose code it is, the present one or one beside it; undefined where there is none, or where it is
 *   taken
 */
export function totpStep({ after, ...typed }: Typed & { after: number }): number | undefined {
  const off = stepsOff(typed, window)
  const step = stepAt(typed.now) + (off ?? 0)
  return off === undefined || isTaken(step, after, typed.now) ? undefined : step
}

/**
 * Whether no code of a step is good any more, by the last step of which one was. A last one in the future was by a clock
 * that was wrong, and must not lock its owner out until then.
 */
export const isTaken = (step: number, last: number, now: number): boolean =>
  step <= last && !isFuture(last * periodSeconds * 1000, now)

/** Ten minutes each way: more than a clock that nobody has noticed is off by. */
const stepsOffAtMost = 20

/**
 * How far off the time of a code is, for whoever has to say why it is wrong.
 *
 * @returns seconds, negative for a code of the past; undefined for one of no time near
 */
export function secondsOff(typed: Typed): number | undefined {
  const off = stepsOff(typed, stepsOffAtMost)
  return off === undefined ? undefined : off * periodSeconds
}
