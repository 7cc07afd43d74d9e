/**
 * Functions that check and write by a schema, by its id as `plugins/http/compilers.ts` has it. Here are none: in the
 * bundle of the service `scripts/bundle.js` puts those of its routes, so that it need not load what compiles them.
 */
export const compiledSchemas: Record<string, () => unknown> = {}
