/*
 * The modules of the service and of the packages that each start uses, as one file with what V8 has made of it: to find,
 * read and compile a thousand files is most of a start. `scripts/bundle.js` makes the file, `scripts/code-cache.js` the
 * rest, which is for one version of Node and its options; to any other it is nothing. CommonJS without an import, because
 * start.cts runs it before the first ES module is loaded.
 */
const { readFileSync }: typeof import('node:fs') = process.getBuiltinModule('node:fs')
const { Script }: typeof import('node:vm') = process.getBuiltinModule('node:vm')
const { join }: typeof import('node:path') = process.getBuiltinModule('node:path')

const directory = join(__dirname, '..')
const bundle = join(directory, 'service.cjs')
const codeCache = join(directory, 'service.cache')

/** What hooks into the loading of modules, such as an agent that measures, has to meet each of them. */
const hooks = /(^|\s)(--(import|require|loader|experimental-loader)\b|-r\s)/

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path)
  } catch {
    return undefined
  }
}

/**
 * Runs the service from its bundle.
 *
 * @returns what was run; undefined where there is no bundle, or the modules are to be loaded one by one
 */
function runBundle(): import('node:vm').Script | undefined {
  if (hooks.test(`${process.execArgv.join(' ')} ${process.env['NODE_OPTIONS'] ?? ''}`)) return undefined
  // Only ASCII is in it: one byte for each character, in memory too.
  const source = readIfThere(bundle)?.toString('latin1')
  if (source === undefined) return undefined
  const cachedData = readIfThere(codeCache)
  const script = new Script(source, { filename: bundle, ...(cachedData && { cachedData }) })
  const { createRequire }: typeof import('node:module') = process.getBuiltinModule('node:module')
  // A script of its own has no import().
  script.runInThisContext()(createRequire(bundle), (name: string) => import(name), directory)
  return script
}

module.exports = { runBundle, bundle, codeCache }
