import { TOTP } from 'otpauth'

/** What an authenticator app shows at a time. @param secret in base32 @param now milliseconds since the epoch */
export const codeOf = (secret: string, now: number): string => new TOTP({ secret }).generate({ timestamp: now })
