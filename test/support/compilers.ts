import { createRequire } from 'node:module'
import type { AppOptions } from '../../app.ts'

/* Fastify's own compilers of schemas, each schema compiled once for all apps of a process: 40 % of building an app. */

type Compile = (route: { schema: unknown }) => unknown
type BuildCompiler = (...context: unknown[]) => Compile

// The packages that Fastify itself has, whatever their versions.
const require = createRequire(createRequire(import.meta.url).resolve('fastify'))
const builderOf = (name: string): BuildCompiler => require(name)()

/** @returns the value of a key, made when it is asked for the first time */
function remembered<T>(made: Map<string, T>, key: unknown, make: () => T): T {
  const text = JSON.stringify(key)
  const known = made.get(text)
  if (known !== undefined) return known
  const value = make()
  made.set(text, value)
  return value
}

/** @param build makes the compiler of an app, from the schemas that others refer to and the options */
function shared(build: BuildCompiler): BuildCompiler {
  const compilers = new Map<string, Compile>()
  return (...context) =>
    remembered(compilers, context, () => {
      const compile = build(...context)
      const compiled = new Map<string, unknown>()
      return (route) => remembered(compiled, route.schema, () => compile(route))
    })
}

export const schemaController = {
  compilersFactory: {
    buildValidator: shared(builderOf('@fastify/ajv-compiler')),
    buildSerializer: shared(builderOf('@fastify/fast-json-stringify-compiler')),
  },
} as AppOptions['schemaController']
