import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import type { FastifyServerOptions } from 'fastify'
import { compiledSchemas } from './compiled-schemas.ts'

/*
 * Fastify's own compilers of schemas, each schema compiled once for all routes of a process. Six of seven are one that
 * another route has, too: how a refusal looks, an id in a path. To compile each anew is a tenth of the CPU time of a
 * start; the bundle of the service has them compiled.
 */

// The packages that Fastify itself has, whatever their versions.
const require = createRequire(createRequire(import.meta.url).resolve('fastify'))

type Compile = (route: { schema: unknown }) => unknown
type BuildCompiler = (...context: unknown[]) => Compile

/** @returns the value of a key, made when it is asked for the first time */
function remembered<T>(made: Map<string, T>, text: string, make: () => T): T {
  const known = made.get(text)
  if (known !== undefined) return known
  const value = make()
  made.set(text, value)
  return value
}

/**
 * Names what a compiler makes of a schema, in whichever process.
 *
 * @param compiler name of its package
 * @param context the schemas that others refer to and the options, as JSON
 * @param schema as JSON
 */
export const compiledId = (compiler: string, context: string, schema: string): string =>
  createHash('sha256').update(`${compiler}\0${context}\0${schema}`).digest('base64url')

/** @param name a package that builds the compiler of an app, from the schemas that others refer to and the options */
function shared(name: string): BuildCompiler {
  const compilers = new Map<string, Compile>()
  return (...context) => {
    const contextText = JSON.stringify(context)
    return remembered(compilers, contextText, () => {
      let built: Compile | undefined
      const compile: Compile = (route) => {
        built ??= (require(name)() as BuildCompiler)(...context)
        return built(route)
      }
      const compiled = new Map<string, unknown>()
      return (route) => {
        const text = JSON.stringify(route.schema)
        const make = () => compiledSchemas[compiledId(name, contextText, text)]?.() ?? compile(route)
        return remembered(compiled, text, make)
      }
    })
  }
}

export const sharedCompilers = {
  compilersFactory: {
    buildValidator: shared('@fastify/ajv-compiler'),
    buildSerializer: shared('@fastify/fast-json-stringify-compiler'),
  },
} as NonNullable<FastifyServerOptions['schemaController']>
