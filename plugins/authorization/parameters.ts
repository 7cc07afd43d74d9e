import { checked } from '../../domain/checks.ts'
import { Refusal } from '../../errors.ts'

/** As they come; of one that is repeated, all. */
export type Parameters = Readonly<Record<string, string | string[] | undefined>>

/** The value of a parameter that is there once; an empty one counts as left out, RFC 6749 §3.1. */
export function parameterOf(parameters: Parameters, name: string): string | undefined {
  const value = parameters[name]
  return typeof value === 'string' && value !== '' ? value : undefined
}

/** 400 `invalid_request`, of a request for authorization. */
export const wrongRequest = (detail: string): Refusal =>
  new Refusal('invalid_request', { detail, checks: [checked('authorization_request', detail)] })
