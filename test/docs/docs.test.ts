import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import type { Command } from 'commander'
import t from 'tap'
import { checks } from '../../cli/doctor/index.ts'
import { remote } from '../../cli/doctor/remote.ts'
import { createProgram } from '../../cli/main.ts'
import { Settings } from '../../config.ts'
import { settingOfCheck } from '../../domain/checks.ts'
import { events } from '../../events.ts'
import { anchorsIn, matches, quoted, rowsIn } from '../support/pages.ts'
import { root } from '../support/program.ts'

/* The documentation says what the code does: names that are in one are in the other. */

const read = (path: string) => readFile(join(root, path), 'utf8')

async function filesBelow(dir: string, ending: RegExp): Promise<string[]> {
  const entries = await readdir(join(root, dir), { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile() && ending.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
}

const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'SECURITY.md',
  ...(await filesBelow('docs', /\.md$/)),
].sort()
const texts = new Map(await Promise.all(pages.map(async (page) => [page, await read(page)] as const)))
const textOf = (page: string) => texts.get(page) as string
const allText = [...texts.values()].join('\n')

/** What the service and the command are made of. */
const sources = [
  ...(
    await Promise.all(
      ['cluster', 'config', 'domain', 'log', 'process', 'plugins', 'routes', 'stores', 'cli', 'schemas'].map((dir) =>
        filesBelow(dir, /\.ts$/),
      ),
    )
  ).flat(),
  ...(await readdir(root)).filter((name) => /\.c?ts$/.test(name)),
]
const codeOf = async (paths: string[]) => (await Promise.all(paths.map(read))).join('\n')
const code = await codeOf(sources)

const unique = (names: Iterable<string>) => [...new Set(names)].sort()

/** The rows of all tables of a page whose head begins with a word, as cells. */
const rowsOf = (page: string, firstHead: string) => rowsIn(textOf(page), firstHead)

/** Text outside of fenced blocks, and the blocks. */
function split(page: string): { prose: string; blocks: { language: string; text: string }[] } {
  const blocks: { language: string; text: string }[] = []
  const prose = textOf(page).replace(
    /^( *)```(\w*)[^\n]*\n(.*?)^\1```$/gms,
    (_all, _indent, language: string, text: string) => {
      blocks.push({ language, text })
      return ''
    },
  )
  return { prose, blocks }
}

t.test('every code of errors.ts is in docs/errors.md, with its status and its OAuth code, and no other', async (t) => {
  const table = /const table = \{(.*?)\n\} as const/s.exec(await read('errors.ts'))?.[1] ?? ''
  const inCode = [...table.matchAll(/^ {2}(\w+): \[\s*(\d+),\s*'(\w+)'/gm)].map(([, ...row]) => row.join(' '))
  const inDocs = rowsOf('docs/errors.md', 'code').map(([name, status, oauth]) =>
    [...quoted(name), status, ...quoted(oauth)].join(' '),
  )
  // The refusal of a plugin keeps the status that the plugin gave it.
  const asInDocs = inCode.map((row) => row.replace(/^refused 400/, 'refused 4xx'))
  t.ok(inCode.length > 20)
  t.same(inDocs.sort(), asInDocs.sort())
})

t.test('every event that is logged is in docs/operations.md, with its level, and no other', async (t) => {
  const inCode = Object.entries(events).map(([event, { level }]) => `${event} ${level}`)
  const inDocs = rowsOf('docs/operations.md', 'event').flatMap(([names, level]) =>
    quoted(names).map((event) => `${event} ${level?.trim()}`),
  )
  t.ok(inCode.length > 20)
  t.same(inDocs.sort(), inCode.sort())
  const literals = matches(code, /\bevent: '([a-z]+\.[a-z_]+)'/g).filter((event) => !(event in events))
  t.same(literals, [], 'and no line has an event that is not in the table')
})

t.test('every metric is in docs/metrics.md, and no page names another', async (t) => {
  const names = /\b(latchkey_[a-z_]+)\b/g
  const isOfStore = (path: string) => path.startsWith('stores/')
  const inCode = unique(matches(await codeOf(sources.filter((path) => !isOfStore(path))), names))
  const tables = unique(matches(await codeOf(sources.filter(isOfStore)), names))
  t.ok(inCode.length >= 5)
  t.same(unique(rowsOf('docs/metrics.md', 'metric').flatMap(([name]) => quoted(name))), inCode)
  const known = [...tables, ...['', '_bucket', '_count', '_sum'].flatMap((part) => inCode.map((name) => name + part))]
  const ofReaders = ['latchkey_check']
  t.same(
    unique(matches(allText, names)).filter((name) => ![...known, ...ofReaders].includes(name)),
    [],
  )
})

t.test('every setting is in docs/settings.md with its default, and no page names another', async (t) => {
  const settings: Record<string, { default?: string }> = Settings.properties
  const rows = rowsOf('docs/settings.md', 'setting')
  t.same(rows.flatMap(([name]) => quoted(name)).sort(), Object.keys(settings).sort())
  for (const [name = '', given = ''] of rows) {
    const literal = /^`([^`]+)`$/.exec(given)?.[1]
    // The issuer's and the number of cores are not known before the start.
    const { default: inCode } = settings[quoted(name)[0] as string] ?? {}
    if (!['`AUTH_ISSUER`', '`AUTH_HASH_CONCURRENCY`'].includes(name)) t.equal(literal, inCode, name)
  }
  const ofOthers = [
    'LATCHKEY_ARGON2',
    'LATCHKEY_SECRET',
    'LATCHKEY_USERNAME',
    'LATCHKEY_PASSWORD',
    'LATCHKEY_CLIENT_ID',
    'LATCHKEY_CLIENT_SECRET',
    // Of the tests themselves.
    'LATCHKEY_LONG',
  ]
  const named = unique(matches(allText, /\b((?:AUTH|LATCHKEY)_[A-Z0-9_]+)\b/g))
  t.same(
    named.filter((name) => !settings[name] && !ofOthers.includes(name)),
    [],
  )
})

t.test('every command of latchkey is in docs/cli.md with its options, and no other', async (t) => {
  const inCode: string[] = []
  const walk = (command: Command, path: string[]): void => {
    if (command.commands.length > 0) for (const one of command.commands) walk(one, [...path, one.name()])
    else
      inCode.push(
        [
          ...path,
          ...command.options
            .map(({ long }) => long as string)
            .filter((flag) => flag !== '--json')
            .sort(),
        ].join(' '),
      )
  }
  walk(
    createProgram(process, async () => {}),
    [],
  )
  const inDocs = rowsOf('docs/cli.md', 'command').map(([command, options]) => {
    const words = (quoted(command)[0] ?? '').split(' ').filter((word) => /^[a-z-]+$/.test(word))
    return [...words, ...quoted(options).sort()].join(' ')
  })
  t.same(inDocs.sort(), inCode.sort())
})

t.test('every check of the doctor is in docs/doctor.md, in the order of its report, and no other', async (t) => {
  t.same(
    rowsOf('docs/doctor.md', 'check').flatMap(([ids]) => quoted(ids)),
    [...checks, ...remote].map(({ id }) => id),
  )
})

const anchorsOf = (page: string) => anchorsIn(split(page).prose)

t.test('every check that a refusal can name is in docs/explain.md, with its setting, and no other', async (t) => {
  const settings = (text: string) => text.match(/AUTH_\w+|DATABASE_URL/g)?.join(' ') ?? ''
  const inCode = Object.entries(settingOfCheck).map(([name, setting = '']) => `${name} ${settings(setting)}`)
  const inDocs = rowsOf('docs/explain.md', 'check').map(
    ([name, , setting = '']) => `${quoted(name)} ${settings(setting)}`,
  )
  t.ok(inCode.length > 40)
  t.same(inDocs, inCode, 'in the order of the code')
})

t.test('every link between the pages leads somewhere', async (t) => {
  const broken: string[] = []
  for (const page of pages) {
    for (const target of matches(split(page).prose, /\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target)) continue
      const [file = '', anchor] = target.split('#')
      const path = file === '' ? page : relative(root, join(root, dirname(page), file))
      const isThere = existsSync(join(root, path)) && (anchor === undefined || anchorsOf(path).includes(anchor))
      if (!isThere) broken.push(`${page}: ${target}`)
    }
  }
  t.same(broken, [])
})

t.test('every page is reached from the README', async (t) => {
  const reached = new Set(['README.md'])
  for (const page of reached) {
    for (const target of matches(split(page).prose, /\]\(([^)\s#]+\.md)/g)) {
      const path = relative(root, join(root, dirname(page), target))
      if (texts.has(path)) reached.add(path)
    }
  }
  t.same(
    pages.filter((page) => !reached.has(page)),
    [],
  )
})

t.test('every block of JSON is JSON', async (t) => {
  const broken: string[] = []
  for (const page of pages) {
    for (const { language, text } of split(page).blocks.filter(({ language }) => language === 'json')) {
      try {
        JSON.parse(text)
      } catch {
        broken.push(`${page}: ${language} ${text}`)
      }
    }
  }
  t.same(broken, [])
})

t.test('every file of the project that a page names is there', async (t) => {
  const dirs = (await readdir(root, { withFileTypes: true })).filter(
    (entry) => entry.isDirectory() && entry.name !== 'node_modules',
  )
  const files = (
    await Promise.all(dirs.map(({ name }) => (/^(dist|data|\.(?!ci).*)$/.test(name) ? [] : filesBelow(name, /./))))
  ).flat()
  files.push(...(await readdir(root)))
  const names = new Set(files.map((path) => basename(path)))
  const missing: string[] = []
  // On the pages for integrators, files are theirs.
  for (const page of pages.filter(
    (page) => !page.startsWith('docs/integrating') && page !== 'docs/from-tutorials.md',
  )) {
    for (const path of matches(split(page).prose, /`([\w./-]+\.(?:c?ts|md|ya?ml|sh)|[a-z]+\/)`/g)) {
      const isThere = path.includes('/') ? existsSync(join(root, path)) : names.has(path)
      if (!isThere) missing.push(`${page}: ${path}`)
    }
  }
  t.same(missing, [])
})

t.test('no command has a comment with it, which zsh would take for arguments', async (t) => {
  const commented = pages.flatMap((page) =>
    split(page).blocks.filter(({ language, text }) => language === 'sh' && /(^|\s)#/.test(text)),
  )
  t.same(
    commented.map(({ text }) => text),
    [],
  )
})
