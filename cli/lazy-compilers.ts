import { createRequire } from 'node:module'
import type { AppOptions } from '../app.ts'

/*
 * Fastify's own compilers, loaded when the first schema is used, and each schema compiled at its first use. To load them
 * and to compile every schema is a sixth of the CPU time of a start, and a command uses two or three of them.
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
  let build: BuildCompiler | undefined
  return (...context) => {
    let compile: Compile | undefined
    return (route) =>
      useLazily(() => {
        build ??= require(name)() as BuildCompiler
        compile ??= build(...context)
        return compile(route)
      })
  }
}

export const lazyCompilers = {
  compilersFactory: {
    buildValidator: lazy('@fastify/ajv-compiler'),
    buildSerializer: lazy('@fastify/fast-json-stringify-compiler'),
  },
} as AppOptions['schemaController']
