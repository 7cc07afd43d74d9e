/*
 * For services that check Latchkey's access tokens by themselves: `createVerifier` for any, `latchkeyVerify` for
 * Fastify. Of the server it shares the rules in domain/, and nothing else.
 */
export type { AccessTokenClaims as Claims } from '../domain/access-token.ts'
export { type Failure, type Problem, TokenRefused, VerifierError, VerifierUnavailable } from './errors.ts'
export { type LatchkeyVerifyOptions, latchkeyVerify, latchkeyVerify as default, type TokenGuard } from './fastify.ts'
export type { VerifierEvent, VerifierOptions } from './options.ts'
export { createVerifier, type Requirements, type Verifier, type VerifierStatus } from './verifier.ts'
