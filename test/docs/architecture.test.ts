import { existsSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join, relative } from 'node:path'
import t from 'tap'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import { revocationColumns, tables } from '../../stores/rows.ts'
import { cheapHashing, newDir } from '../support/helper.ts'
import { mailsInto } from '../support/mail.ts'
import { moduleFile, root } from '../support/program.ts'

/*
 * docs/architecture.md lists what there is: plugins, routes, rows, folders. Its tables follow the code: `UPDATE=1
 * npm test -- test/docs/architecture.test.ts` puts in what is missing and takes out what is gone. People write the
 * words of the last column, and the layout.
 */

const path = join(root, 'docs/architecture.md')
let page = await readFile(path, 'utf8')
const nothing = { missing: [], gone: [] }
const code = (text: string) => `\`${text}\``
const list = (texts: readonly string[]) => texts.map(code).join(', ')

async function sourcesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(join(root, dir), { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile() && /\.c?ts$/.test(entry.name))
  return files.map((entry) => relative(root, join(entry.parentPath, entry.name))).sort()
}

/**
 * Compares the table whose head begins with a word with rows.
 *
 * @param hasWords whether the table has one more column, with words written by hand, by the first cell
 * @returns what differs
 */
async function compareTable(
  head: string,
  expected: string[][],
  hasWords = true,
): Promise<{ missing: string[]; gone: string[] }> {
  const table = new RegExp(`(^\\| ${head} .*\\n\\| ---.*\\n)((?:^\\|.*\\n)*)`, 'm')
  const [, before = '', rows = ''] = table.exec(page) ?? []
  const cellsOf = (line: string) =>
    line
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim())
  const written = rows.split('\n').filter(Boolean).map(cellsOf)
  if (process.env['UPDATE']) {
    const words = new Map(written.map((cells) => [cells[0], cells.at(-1) as string]))
    const withWords = (cells: string[]) => (hasWords ? [...cells, words.get(cells[0] as string) ?? ''] : cells)
    const lines = expected.map((cells) => `| ${withWords(cells).join(' | ')} |\n`)
    page = page.replace(before + rows, () => before + lines.join(''))
    await writeFile(path, page)
    return nothing
  }
  const inCode = expected.map((cells) => cells.join(' | '))
  const inPage = written.map((cells) => (hasWords ? cells.slice(0, -1) : cells).join(' | '))
  const wordless = hasWords ? written.filter((cells) => cells.at(-1) === '').map(([name]) => `${name}: no words`) : []
  return {
    missing: [...inCode.filter((row) => !inPage.includes(row)), ...wordless],
    gone: inPage.filter((row) => !inCode.includes(row)),
  }
}

t.test('every plugin is listed with its file and what it needs, in the order of app.ts', async (t) => {
  const app = await readFile(join(root, 'app.ts'), 'utf8')
  const files = new Map(
    [...app.matchAll(/^import (\w+).* from '\.\/(plugins\/.*)\.ts'$/gm)].map(([, as, at]) => [as, at]),
  )
  const registered = [...app.matchAll(/app\.register\((?:import\('\.\/(plugins\/.*?)\.ts'\)|(\w+))/g)]
  const expected: string[][] = []
  for (const [, imported, as] of registered) {
    const file = imported ?? files.get(as as string)
    if (file === undefined) continue
    const { default: plugin } = await import(moduleFile(file))
    const { name, dependencies = [] } = plugin[Symbol.for('plugin-meta')]
    expected.push([code(name), code(`${file}.ts`), list(dependencies)])
  }
  t.ok(expected.length > 20)
  t.same(await compareTable('plugin', expected), nothing)
})

t.test('every route is listed with its file, its guard and the family of its errors', async (t) => {
  const app = await buildApp(
    readConfig({ ...cheapHashing, ...(await mailsInto(t)), LOG_LEVEL: 'silent', AUTH_DATA_DIR: await newDir(t) }),
  )
  t.teardown(() => app.close())
  const texts = await Promise.all(
    (await sourcesBelow('routes')).map(async (file) => ({ file, text: await readFile(join(root, file), 'utf8') })),
  )
  type Operation = { operationId: string; security?: Record<string, string[]>[] }
  const { paths } = (await app.inject('/openapi.json')).json() as { paths: Record<string, Record<string, Operation>> }
  const guardOf = ({ security = [] }: Operation) => {
    const schemes = security.flatMap(Object.keys)
    if (schemes.includes('client')) return security.length === 1 ? 'client' : 'client, or public'
    if (!schemes.includes('bearer')) return ''
    return security.some(({ login = [] }) => login.includes('admin')) ? 'administrator' : 'token'
  }
  const expected = Object.entries(paths).flatMap(([url, operations]) =>
    Object.entries(operations).map(([method, operation]) => {
      const files = texts.filter(({ text }) => text.includes(`'${operation.operationId}'`)).map(({ file }) => file)
      const { family } = app.knownPaths.get(url.replace(/\{(\w+)\}/g, ':$1')) ?? {}
      const errors = family === 'oauth' ? 'RFC 6749' : 'RFC 9457'
      return [code(`${method.toUpperCase()} ${url}`), list(files), guardOf(operation), errors]
    }),
  )
  t.ok(expected.length > 30)
  t.same(await compareTable('route', expected, false), nothing)
})

t.test('every kind of row is listed with its key and members', async (t) => {
  const expected = Object.values(tables).map(({ name, key, columns }) => [
    code(name),
    code(key),
    list(Object.keys(columns)),
  ])
  expected.push([code('revocations'), 'a number, in order', list(Object.keys(revocationColumns))])
  t.same(await compareTable('rows', expected), nothing)
})

t.test('every folder and every file at the root is in the layout, and nothing else', async (t) => {
  const top = (await readdir(root, { withFileTypes: true })).filter(
    ({ name }) => !/^(\.|node_modules$|dist$)/.test(name),
  )
  const folders = await Promise.all(
    top
      .filter((entry) => entry.isDirectory())
      .map(async ({ name }) => ({ name, files: await readdir(join(root, name)) })),
  )
  const isOurs = ({ name, files }: { name: string; files: string[] }) => name !== 'data' && files.length > 0
  const expected = [
    ...folders.filter(isOurs).map(({ name }) => `${name}/`),
    ...(await readdir(join(root, 'plugins'), { withFileTypes: true }))
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => `plugins/${name}/`),
    ...top.map(({ name }) => name).filter((name) => /\.c?ts$/.test(name)),
  ]
  const layout = /^## Layout\n(.*?)^## /ms.exec(page)?.[1] ?? ''
  const listed = [...layout.matchAll(/^\| (`.*?) \|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name as string),
  )
  t.same(listed.sort(), expected.sort())
  const readme = await readFile(join(root, 'plugins/README.md'), 'utf8')
  t.same(
    expected
      .filter((name) => name.startsWith('plugins/') && !readme.includes(code(name.slice('plugins/'.length))))
      .sort(),
    ['plugins/'],
    'and plugins/README.md says what belongs into each',
  )
})

t.test('every file that a diagram or a walk names is there', async (t) => {
  const top = (await readdir(root, { withFileTypes: true })).filter(
    ({ name }) => !/^(\.|node_modules$|dist$)/.test(name),
  )
  const below = await Promise.all(top.filter((entry) => entry.isDirectory()).map(({ name }) => sourcesBelow(name)))
  const names = new Set([...top.map(({ name }) => name), ...below.flat().map((file) => basename(file))])
  const named = [...page.matchAll(/[\w./-]*\w\.c?ts\b/g)].map(([file]) => file)
  t.ok(named.length > 60)
  t.same(
    named.filter((file) => (file.includes('/') ? !existsSync(join(root, file)) : !names.has(file))),
    [],
  )
})
