import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/program.ts'

/*
 * Which plugin needs which, read from the sources: a factory takes `Pick<FastifyInstance, …>`, and the compiler holds
 * it to that.
 */

const namesIn = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, name]) => name as string)

interface PluginFile {
  path: string
  name: string
  dependencies: string[]
  /** decorators of the app that it makes */
  makes: string[]
  needs: string[]
  source: string
}

const files = readdirSync(join(root, 'plugins'), { recursive: true })
  .map((name) => join('plugins', String(name)))
  .filter((path) => path.endsWith('.ts'))

const sourceOf = (path: string) => readFileSync(join(root, path), 'utf8')

const plugins: PluginFile[] = files.flatMap((path) => {
  const source = sourceOf(path)
  const name = /\bname: '([a-z-]+)'/.exec(source.slice(source.indexOf('export default')))?.[1]
  if (!source.includes('export default fp(') || name === undefined) return []
  const declared = /dependencies: \[([^\]]*)\]/.exec(source)?.[1] ?? ''
  /** Parts of the plugin that are files of their own take a `Pick` as well. */
  const parts = namesIn(source, /from '\.\/([\w-]+\.ts)'/g).map((part) => sourceOf(join(path, '..', part)))
  const own = parts.filter((part) => !part.includes('export default fp('))
  const picks = [source, ...own].flatMap((text) => namesIn(text, /Pick<\s*FastifyInstance,([^>]+)>/g))
  return {
    path,
    name,
    source,
    dependencies: namesIn(declared, /'([a-z-]+)'/g),
    makes: namesIn(source, /\bapp\.decorate\(\s*'(\w+)'/g),
    needs: [
      ...picks.flatMap((pick) => namesIn(pick, /'(\w+)'/g)),
      ...namesIn(source, /\bapp\.(\w+)\b/g),
      ...namesIn(source, /const \{([^}]+)\} = app$/gm).flatMap((list) => namesIn(list, /(\w+)(?=\s*(?:,|:|$))/g)),
    ],
  }
})

const makerOf = new Map(plugins.flatMap(({ name, makes }) => makes.map((decorator) => [decorator, name] as const)))

t.test('a plugin declares each plugin that it uses', async (t) => {
  t.ok(plugins.length > 20)
  const undeclared = plugins.flatMap(({ name, needs, dependencies }) =>
    needs
      // What no plugin makes is of the app itself, or of a package.
      .map((need) => makerOf.get(need) ?? name)
      .filter((maker) => maker !== name && !dependencies.includes(maker))
      .map((maker) => `${name} uses ${maker}`),
  )
  t.same([...new Set(undeclared)], [])
})

t.test('a factory names what it uses of the app', async (t) => {
  const whole = plugins.filter(({ source }) => /function create\w+\((?:app|\{[^}]*\}): FastifyInstance\b/.test(source))
  t.same(
    whole.map(({ path }) => path),
    [],
  )
})

t.test('no plugin waits for one that waits for it, and `app.ts` registers each after those that it uses', async (t) => {
  const app = sourceOf('app.ts')
  // Registers others, and stands for them in `app.ts`.
  const group = 'plugins/authorization/index.ts'
  const grouped = sourceOf(group)
  const inGroup = new Map(
    [...grouped.matchAll(/import (\w+) from '(\.[^']+)'/g)].map(([, as, path]) => [
      join(group, '..', path as string),
      as,
    ]),
  )
  const placeOf = (path: string): number => {
    const as = inGroup.get(path)
    if (as !== undefined) return placeOf(group) + grouped.indexOf(`.register(${as})`) / grouped.length
    const variable = new RegExp(`import (\\w+)[^']* from '\\./${path}'`).exec(app)?.[1]
    return app.indexOf(variable ? `.register(${variable}` : `.register(import('./${path}')`)
  }
  const positionOf = new Map(plugins.map(({ name, path }) => [name, placeOf(path)] as const))
  const wrong = plugins.flatMap(({ name, dependencies }) =>
    dependencies
      .filter(
        (other) => (positionOf.get(other) ?? -1) < 0 || Number(positionOf.get(other)) > Number(positionOf.get(name)),
      )
      .map((other) => `${name} before ${other}`),
  )
  t.same(wrong, [])
})

t.test(
  'arrows point down: domain knows nobody, stores and verify know domain, and no plugin knows a route',
  async (t) => {
    const below: Record<string, RegExp> = {
      domain: /^domain\//,
      stores: /^(stores|domain)\/|^config(\.ts|\/)|^errors\.ts$|^plugins\/keys\/secrets\.ts$/,
      verify: /^(verify|domain)\//,
      schemas: /^(schemas|domain)\/|^(errors|events|config)\.ts$|^stores\/store\.ts$/,
      plugins: /^(plugins|domain|stores|schemas|pages|config|process|log|cluster|verify)\/|^\w+\.ts$/,
      pages: /^(pages|domain)\//,
      routes: /^(routes|schemas|pages|domain|plugins|stores)\/|^(errors|config)\.ts$/,
    }
    const wrong = Object.entries(below).flatMap(([folder, allowed]) =>
      readdirSync(join(root, folder), { recursive: true })
        .map((name) => join(folder, String(name)))
        .filter((path) => path.endsWith('.ts'))
        .flatMap((path) =>
          namesIn(sourceOf(path), /from '(\.{1,2}\/[^']+\.ts)'/g)
            .map((target) => join(path, '..', target))
            .filter((target) => !allowed.test(target))
            .map((target) => `${path} imports ${target}`),
        ),
    )
    t.same(wrong, [])
  },
)

t.test(
  'the door for changes is not gone around: who has the whole store, makes an End, or publishes a change',
  async (t) => {
    const paths = ['plugins', 'routes', 'cli', 'cluster', 'stores'].flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true }).map((name) => join(folder, String(name))),
    )
    const withText = (pattern: RegExp) =>
      paths.filter((path) => path.endsWith('.ts') && pattern.test(sourceOf(path))).sort()
    t.same(withText(/ as Store\b/), ['plugins/run/changes.ts', 'plugins/tokens/revocations.ts'])
    t.same(withText(/ as End\b/), ['plugins/run/changes.ts', 'stores/moving/copy.ts'])
    t.same(withText(/\bevents\.publish\(/), ['plugins/run/changes.ts'])
  },
)
