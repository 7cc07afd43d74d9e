import { readdir, readFile, stat } from 'node:fs/promises'
import { createRequire, isBuiltin } from 'node:module'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/program.ts'

const { packages } = JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8')) as {
  packages: Record<string, { engines?: { node?: string }; resolved?: string }>
}
const { satisfies } = createRequire(import.meta.url)('semver') as { satisfies(version: string, range: string): boolean }

t.test(
  'every package runs on each Node.js that Latchkey runs on: npm ci has nothing to warn about, contract section 1',
  async (t) => {
    for (const version of ['20.19.0', '20.20.2', '22.12.0', '24.0.0', '26.0.0']) {
      const others = Object.entries(packages).filter(
        ([, { engines }]) => engines?.node && !satisfies(version, engines.node),
      )
      t.same(
        others.map(([path, { engines }]) => `${path}: ${engines?.node}`),
        [],
        version,
      )
    }
  },
)

t.test('the lock file names no registry: npm asks the one that it is set to', async (t) => {
  const resolved = Object.entries(packages).filter(([, entry]) => entry.resolved !== undefined)
  t.same(
    resolved.map(([path]) => path),
    [],
  )
})

t.test('what is published needs production dependencies only, and nothing that is not published', async (t) => {
  const { dependencies, files } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  t.ok(files.includes('!dist/bench/scenarios'))
  const entries = (await readdir(root)).filter((name) => !/^(node_modules|dist|data|test|\..*)$/.test(name))
  const paths = await Promise.all(
    entries.map(async (name) =>
      (await stat(join(root, name))).isDirectory()
        ? (await readdir(join(root, name), { recursive: true })).map((path) => join(name, path))
        : [name],
    ),
  )
  const published = paths
    .flat()
    .filter((path) => /\.c?ts$/.test(path) && !/^(bench\/scenarios|config\/example)/.test(path))
  t.ok(published.length > 100)
  const wrong: string[] = []
  for (const path of published) {
    const text = await readFile(join(root, path), 'utf8')
    for (const [, name = ''] of text.matchAll(/(?:from |import |import\(|require\()'([^']+)'/g)) {
      const isLocal = name.startsWith('.')
      const [scope = '', second] = name.split('/')
      const packageName = scope.startsWith('@') ? `${scope}/${second}` : scope
      const isThere = isLocal ? !/scenarios|test\//.test(name) : isBuiltin(name) || packageName in dependencies
      if (!isThere) wrong.push(`${path}: ${name}`)
    }
  }
  t.same(wrong, [])
})
