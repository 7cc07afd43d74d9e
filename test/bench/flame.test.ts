import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import type { Profiler } from 'node:inspector'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { flameGraph } from '../../bench/scenarios/flame-graph.ts'
import { functionsOf, readProfile } from '../../bench/scenarios/profile.ts'
import { plainEnv } from '../support/cli.ts'
import { cheapHashing, newDir } from '../support/helper.ts'
import { program } from '../support/program.ts'
import { isWellFormed } from '../support/xml.ts'

/** `[function, url, line, samples, children]`; ids are given in order. */
type Node = [name: string, url: string, line: number, samples: number, ...children: Node[]]

function profileOf(top: Node): Profiler.Profile {
  const nodes: Profiler.ProfileNode[] = []
  const add = ([functionName, url, line, hitCount, ...children]: Node): number => {
    const callFrame = { functionName, scriptId: '0', url, lineNumber: line - 1, columnNumber: 0 }
    const node: Profiler.ProfileNode = { id: nodes.length + 1, callFrame, hitCount }
    nodes.push(node)
    node.children = children.map(add)
    return node.id
  }
  add(top)
  return { nodes, startTime: 0, endTime: 0 }
}

const made = profileOf([
  '(root)',
  '',
  1,
  0,
  ['(idle)', '', 1, 400],
  ['(garbage collector)', '', 1, 10],
  [
    'onRequest',
    'node:_http_server',
    900,
    20,
    ['rotate', 'file:///app/plugins/sessions.js', 12, 30, ['sign', '', 1, 20]],
    ['rotate', 'file:///app/plugins/sessions.js', 12, 5, ['sign', '', 1, 5]],
    ['', 'file:///app/node_modules/fastify/lib/route.js', 7, 10],
  ],
])

t.test('a profile is the samples of each function, without those in which nothing was done', async (t) => {
  const all = readProfile(made, '/app')
  t.match(all, { total: 100, self: 0 })
  t.strictSame(
    functionsOf(all)
      .filter(({ self }) => self > 0)
      .map(({ name, place, owner, self }) => [name, place, owner, self]),
    [
      ['rotate', 'plugins/sessions.js:12', 'latchkey', 35],
      ['sign', 'from rotate plugins/sessions.js:12', 'native', 25],
      ['onRequest', 'node:_http_server:900', 'Node.js', 20],
      ['(garbage collector)', '', 'native', 10],
      ['(anonymous)', 'fastify/lib/route.js:7', 'packages', 10],
    ],
    'what V8 compiled twice is one, and native code is told by its caller',
  )
})

t.test('a function is named by the line of its source, where what was built has a map', async (t) => {
  const dir = await newDir(t)
  // The second line of the program is the fortieth of the source.
  const map = { version: 3, sources: ['../plugins/sessions.ts'], names: [], mappings: ';AAuCA' }
  await writeFile(join(dir, 'sessions.js.map'), JSON.stringify(map))
  const all = readProfile(
    profileOf(['(root)', '', 1, 0, ['rotate', `file://${dir}/sessions.js`, 2, 1]]),
    join(dir, '..'),
  )
  t.match(all.calls, [{ name: 'rotate', place: 'plugins/sessions.ts:40', owner: 'latchkey' }])
})

t.test('the graph is well-formed, and a frame is as wide as its samples', async (t) => {
  const svg = flameGraph(readProfile(made, '/app'), 'refresh <1>', 'two & more', 50)
  isWellFormed(t, svg)
  const frames = [
    ...svg.matchAll(/<title>([^<]*)<\/title><rect class="(\w+)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"/g),
  ]
  const of = (name: string) => {
    const [, about = '', kind, x, y, width] = frames.find(([, about]) => about?.startsWith(name)) ?? []
    return { about, kind, x: Number(x), y: Number(y), width: Math.round(Number(width) / 11.8) }
  }
  const [all, caller, called] = [of('all'), of('onRequest'), of('rotate')]
  t.equal(frames.length, 6, 'idle is no frame')
  t.strictSame([all.width, caller.width, called.width, of('sign').width], [100, 90, 60, 25])
  t.match(called.about, /^rotate plugins\/sessions\.js:12: 30\.0 µs, 60\.0 %; by itself 17\.5 µs, 35\.0 %$/)
  t.equal(called.x, caller.x, 'the largest first')
  t.ok(called.y < caller.y && caller.y < all.y, 'each on its caller')
  t.equal(new Set(['rotate', 'onRequest', 'sign', '(anonymous)'].map((name) => of(name).kind)).size, 4)
  isWellFormed(t, flameGraph(readProfile({ nodes: [], startTime: 0, endTime: 0 }, '/'), 'nothing', ''))
})

t.test('a service under load is profiled: npm run bench:flame', { skip: process.platform === 'win32' }, async (t) => {
  const dir = await newDir(t)
  const [svg, profile] = [join(dir, 'refresh.svg'), join(dir, 'refresh.cpuprofile')]
  const args = ['refresh', '--seconds', '0.3', '--connections', '4', '--svg', svg, '--profile', profile, '--json']
  const env = { ...plainEnv, ...cheapHashing, TMPDIR: dir }
  const child = spawn(process.execPath, [program('bench/scenarios/flame.js'), ...args], { env })
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')])
  t.equal(code, 0, stderr)
  const { 'functions by themselves': functions, 'of the thread that answers': shares } = JSON.parse(stdout)
  t.equal(shares.length, 4)
  t.ok(functions.length > 10)
  isWellFormed(t, await readFile(svg, 'utf8'))
  const names = functionsOf(readProfile(JSON.parse(await readFile(profile, 'utf8')), '/')).map(({ place }) => place)
  t.ok(names.some((place) => /plugins\/sessions\/refreshing\.ts:\d+$/.test(place)))
})
