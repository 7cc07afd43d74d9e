import { createRequire } from 'node:module'
import type { AppOptions } from '../app.ts'

/*
 * Fastify's own compilers, each schema compiled at its first use. A command uses two or three of them; to compile all
 * takes a tenth of its CPU time.
 */

// biome-ignore lint/suspicious/noExplicitAny: what validators and serializers take and return is Fastify's
type Compiled = { (data: any): any; errors?: unknown }
type Compile = (route: unknown) => Compiled
type BuildCompiler = (...context: unknown[]) => Compile

/** Fastify takes errors from the result as well as from the function. */
function useLazily(compile: () => Compiled): Compiled {
  let compiled: Compiled | undefined
  return (data) => {
    compiled ??= compile()
    const result = compiled(data)
    return result === false ? { error: compiled.errors } : result
  }
}

// The packages that Fastify itself has, whatever their versions.
const require = createRequire(createRequire(import.meta.url).resolve('fastify'))

function lazy(name: string): BuildCompiler {
  const build: BuildCompiler = require(name)()
  return (...context) => {
    const compile = build(...context)
    return (route) => useLazily(() => compile(route))
  }
}

export const lazyCompilers = {
  compilersFactory: {
    buildValidator: lazy('@fastify/ajv-compiler'),
    buildSerializer: lazy('@fastify/fast-json-stringify-compiler'),
  },
} as AppOptions['schemaController']
