/*
 * Makes `service.cjs` in the directory of the built program: the modules of the service and of the packages that each
 * start uses in one file, with the schemas of its routes compiled. `npm run build` runs this behind the compiler of
 * TypeScript, and `npm test` for what it tests. Without the file the service loads its modules one by one, and is the same.
 *
 *     node scripts/bundle.js [dist]
 */
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join, relative, resolve, sep } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from 'esbuild'

/** Native, or found by a path of their own; or used by few processes, or late. These stay where npm has put them. */
const external = [
  ...['lmdb', 'argon2', 'bcrypt', 'pg-native'],
  ...['@fastify/ajv-compiler', '@fastify/fast-json-stringify-compiler', '@fastify/swagger', '@fastify/swagger-ui'],
  ...['@fastify/otel', '@opentelemetry/*', '@simplewebauthn/*', '@zxcvbn-ts/*', 'light-my-request', 'nodemailer'],
  ...['pg-connection-string', 'pino-pretty', 'qr', 'tldts'],
]
const isExternal = (name) =>
  external.some((entry) => (entry.endsWith('*') ? name.startsWith(entry.slice(0, -1)) : name === entry))
/** Settings that have all routes there are. */
const allRoutes = { AUTH_MAIL_FROM: 'mail@localhost', AUTH_ISSUER: 'http://localhost', LOG_LEVEL: 'silent' }

/**
 * Has Fastify's packages write the code of each function that they compile for the routes of the service.
 *
 * @returns the text of a module in the place of `plugins/http/compiled-schemas.ts`
 */
async function compileSchemas(built) {
  const load = (file) => import(pathToFileURL(join(built, file)).href)
  const { buildApp } = await load('app.js')
  const { readConfig } = await load('config.js')
  const { compiledId } = await load('plugins/http/compilers.js')
  const require = createRequire(createRequire(join(built, 'app.js')).resolve('fastify'))
  const { StandaloneValidator } = require('@fastify/ajv-compiler')
  const { StandaloneSerializer } = require('@fastify/fast-json-stringify-compiler')
  const codes = new Map()

  const compiler = (name, Standalone, more) =>
    function buildCompiler(schemas, options) {
      const context = JSON.stringify([schemas, options])
      const idOf = (schema) => compiledId(name, context, JSON.stringify(schema))
      const storeFunction = ({ schema }, code) => codes.set(idOf(schema), code)
      const compile = Standalone({ readMode: false, storeFunction })(schemas, { ...options, ...more })
      return (route) => (codes.has(idOf(route.schema)) ? () => {} : compile(route))
    }
  const data = mkdtempSync(join(tmpdir(), 'latchkey-bundle-'))
  try {
    const compilersFactory = {
      buildValidator: compiler('@fastify/ajv-compiler', StandaloneValidator),
      // What tells one of several schemas is written out, too.
      buildSerializer: compiler('@fastify/fast-json-stringify-compiler', StandaloneSerializer, {
        inlineValidators: true,
      }),
    }
    for (const pages of ['on', 'off']) {
      const settings = { ...allRoutes, AUTH_DATA_DIR: join(data, pages), AUTH_MAIL_DIR: data, AUTH_PAGES: pages }
      const app = await buildApp(readConfig(settings), { schemaController: { compilersFactory } })
      await app.close()
    }
  } finally {
    rmSync(data, { recursive: true })
  }
  const entries = [...codes].map(
    ([id, code]) =>
      `${JSON.stringify(id)}() { const module = { exports: {} }; ((module, exports) => {${code}\n})(module, module.exports); return module.exports },`,
  )
  return `export const compiledSchemas = {\n${entries.join('\n')}\n}`
}

/** @param built directory with the compiled program */
export async function bundle(built) {
  const schemas = await compileSchemas(built)
  const own = {
    name: 'modules of the service',
    setup({ onLoad }) {
      onLoad({ filter: /\.js$/ }, ({ path }) => {
        const name = relative(built, path)
        if (name.startsWith('..') || name.split(sep).includes('node_modules')) return undefined
        if (name === join('plugins', 'http', 'compiled-schemas.js')) return { contents: schemas, resolveDir: built }
        // A module is where it was, so that it finds the files beside it.
        const contents = readFileSync(path, 'utf8')
          .replaceAll('import.meta.dirname', `placeOf(${JSON.stringify(name)}).directory`)
          .replaceAll('import.meta.url', `placeOf(${JSON.stringify(name)}).url`)
          .replace(/\bimport\('([^']+)'\)/g, (text, of) => (isExternal(of) ? `importPackage('${of}')` : text))
        return { contents }
      })
    },
  }
  const made = await build({
    entryPoints: [join(built, 'server.js')],
    write: false,
    ...{ bundle: true, platform: 'node', format: 'cjs', target: 'node20', external, plugins: [own], metafile: true },
    ...{ charset: 'ascii', legalComments: 'none', logLevel: 'warning', minifyWhitespace: true, lineLimit: 120 },
    // A function of what a module of CommonJS has: `process/bundle.cts` calls it.
    banner: {
      js: `(function (require, importPackage, directory) {\n${placeOf}\nconst module = { exports: {} }, __dirname = directory`,
    },
    footer: { js: '})' },
  })
  // Whole or not at all, for a service that starts meanwhile; and never beside the cache of another.
  const [file, part] = ['service.cjs', `service.${process.pid}.part`].map((name) => join(built, name))
  writeFileSync(part, toAscii(made.outputFiles[0].text))
  rmSync(join(built, 'service.cache'), { force: true })
  renameSync(part, file)
  writeFileSync(join(built, 'service.licenses.txt'), licensesOf(Object.keys(made.metafile.inputs)))
}

/** Of the packages of which the bundle is a copy: they ask for that. */
function licensesOf(files) {
  const directories = files.map((path) => /.*node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(path)?.[0])
  const texts = [...new Set(directories)].filter(Boolean).map((directory) => {
    const { name, version, license } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'))
    const file = readdirSync(directory).find((entry) => /^(licen[cs]e|copying)/i.test(entry))
    return `${name} ${version}: ${license}\n\n${file ? readFileSync(join(directory, file), 'utf8').trim() : ''}\n`
  })
  return texts.sort().join(`\n${'-'.repeat(80)}\n\n`)
}

/** Also what esbuild leaves: comments, and tagged templates, where an escape means the same to those of pages. */
const toAscii = (text) =>
  text.replace(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)

const placeOf = `function placeOf(name) {
  const path = require('node:path').join(directory, name)
  return {
    directory: require('node:path').dirname(path),
    get url() { return require('node:url').pathToFileURL(path).href },
  }
}`

/** The newest of the files that the bundle is made of. */
function changedAt(built) {
  const files = readdirSync(built, { recursive: true })
    .filter((name) => name.endsWith('.js') && !name.startsWith('bench'))
    .map((name) => join(built, name))
  return Math.max(
    ...[...files, fileURLToPath(import.meta.url), 'package-lock.json'].map((path) => statSync(path).mtimeMs),
  )
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const built = resolve(process.argv[2] ?? 'dist')
  const made = statSync(join(built, 'service.cjs'), { throwIfNoEntry: false })
  if (!made || made.mtimeMs < changedAt(built)) await bundle(built)
}
