import { createRequire } from 'node:module'
import type { FastifyServerOptions } from 'fastify'

/*
 * Fastify's own compilers of schemas, each schema compiled once for all routes of a process. Six of seven are one that
 * another route has, too: how a refusal looks, an id in a path. To compile each anew is a tenth of the CPU time of a start.
 */

// The packages that Fastify itself has, whatever their versions.
const require = createRequire(createRequire(import.meta.url).resolve('fastify'))

type Compile = (route: { schema: unknown }) => unknown
type BuildCompiler = (...context: unknown[]) => Compile

/** @returns the value of a key, made when it is asked for the first time */
function remembered<T>(made: Map<string, T>, key: unknown, make: () => T): T {
  const text = JSON.stringify(key)
  const known = made.get(text)
  if (known !== undefined) return known
  const value = make()
  made.set(text, value)
  return value
}

/** @param name a package that builds the compiler of an app, from the schemas that others refer to and the options */
function shared(name: string): BuildCompiler {
  const compilers = new Map<string, Compile>()
  return (...context) =>
    remembered(compilers, context, () => {
      const compile = (require(name)() as BuildCompiler)(...context)
      const compiled = new Map<string, unknown>()
      return (route) => remembered(compiled, route.schema, () => compile(route))
    })
}

export const sharedCompilers = {
  compilersFactory: {
    buildValidator: shared('@fastify/ajv-compiler'),
    buildSerializer: shared('@fastify/fast-json-stringify-compiler'),
  },
} as NonNullable<FastifyServerOptions['schemaController']>
