import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { renderEnvExample } from '../../config/example.ts'
import { readConfig, Settings } from '../../config.ts'
import { root } from '../support/program.ts'

const path = join(root, '.env.example')

t.test(
  '.env.example is what the settings say (UPDATE=1 npm test -- test/docs/env-example.test.ts writes it)',
  async (t) => {
    if (process.env['UPDATE']) writeFileSync(path, renderEnvExample())
    t.equal(readFileSync(path, 'utf8'), renderEnvExample())
  },
)

t.test('every setting is in it once, and its defaults are the defaults', async (t) => {
  const lines = [...renderEnvExample().matchAll(/^#([A-Z0-9_]+)=(.*)$/gm)]
  t.same(
    lines.map(([, name]) => name),
    Object.keys(Settings.properties),
  )
  const env = Object.fromEntries(lines.map(([, name, value]) => [name, value]))
  t.same(readConfig(env), readConfig({}))
})
