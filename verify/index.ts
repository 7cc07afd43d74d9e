/*
 * For services that check Latchkey's access tokens by themselves: `createVerifier` for any, `latchkeyVerify` for Fastify. Nothing here
 * imports from the server.
 */
export { type Failure, type Problem, TokenRefused, VerifierError, VerifierUnavailable } from './errors.ts'
export { type LatchkeyVerifyOptions, latchkeyVerify, latchkeyVerify as default, type TokenGuard } from './fastify.ts'
export type { VerifierEvent, VerifierOptions } from './options.ts'
export type { Claims } from './token.ts'
export { createVerifier, type Requirements, type Verifier, type VerifierStatus } from './verifier.ts'
