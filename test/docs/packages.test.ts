import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import t from 'tap'

const { packages } = JSON.parse(await readFile(new URL('../../package-lock.json', import.meta.url), 'utf8')) as {
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
