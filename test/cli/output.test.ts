import stringWidth from 'string-width'
import t from 'tap'
import { table } from '../../cli/table.ts'

const id = '0198f3ce-4b7e-4f3a-9d1c-6a1f2e3d4c5b'
/** What is no terminal has no columns. */
const whole = Number.POSITIVE_INFINITY
const names = [
  'ada',
  '김철수',
  '李小龍',
  'e\u0301tienne',
  'हिन्दी',
  'ＦＵＬＬ',
  '𐐀𐐁',
  'x'.repeat(254),
  '김'.repeat(254),
  'e\u0301'.repeat(254),
]

t.test('columns of a table line up, whatever characters a name has', async (t) => {
  const lines = table(
    ['name', 'id', 'n'],
    names.map((name, at) => [name, id, 10 ** at]),
    whole,
  ).split('\n')
  const [head = '', ...rows] = lines
  const at = head.indexOf('id')
  for (const [index, row] of rows.entries()) {
    t.ok(row.includes(names[index] as string), 'what is no terminal gets names whole')
    t.equal(stringWidth(row.slice(0, row.indexOf(id))), at, `${names[index]}`)
  }
  t.equal(new Set(rows.map((row) => stringWidth(row))).size, 1, 'numbers end in one column')
})

t.test('on a terminal a name that makes a line too long is cut between characters, and an id is not', async (t) => {
  const rows = names.map((name) => [name, id])
  for (const line of table(['name', 'id'], rows, 80).split('\n').slice(1)) {
    t.ok(stringWidth(line) <= 80, `${line}`)
    t.ok(line.endsWith(id))
    t.notMatch(line, /e…/, 'an accent stays with its letter')
  }
  t.match(table(['name', 'id'], rows, 80), /^x{35}… {2}0198/m)
  const short = names.filter((name) => name.length < 20).map((name) => [name, id])
  t.equal(table(['name', 'id'], short, 80), table(['name', 'id'], short, whole), 'what fits is as it is')
})

t.test('a table of a hundred thousand rows is made', async (t) => {
  t.equal(
    table(
      ['n'],
      Array.from({ length: 150_000 }, (_, n) => [n]),
      whole,
    ).split('\n').length,
    150_001,
  )
})
