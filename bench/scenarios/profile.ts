/* A CPU profile of V8 as a tree of functions, by the names that they have in the sources. */
import { existsSync, readFileSync } from 'node:fs'
import type { Profiler } from 'node:inspector'
import { SourceMap } from 'node:module'
import { dirname, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Whose a function is: of this project, of a package, of Node's own JavaScript, or none that V8 sees into. */
export const owners = ['latchkey', 'packages', 'Node.js', 'native'] as const
export type Owner = (typeof owners)[number]

export interface Frame {
  /** such as `rotate` or `(garbage collector)` */
  name: string
  /** file and line; empty where the code is native */
  place: string
  owner: Owner
  /** samples in it, and in it with all that it called */
  self: number
  total: number
  calls: Frame[]
}

/** The thread had nothing to do. */
const idle = '(idle)'

/**
 * Counts samples and not the time between them: a thread that waits for a core is not sampled.
 *
 * @param root of the project that was profiled: places are told from there
 * @returns the frame that all others are in
 */
export function readProfile({ nodes }: Profiler.Profile, root: string): Frame {
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const describe = createDescriber(root)

  /** A function that V8 has compiled twice is one frame. */
  function add(id: number, siblings: Frame[]): number {
    const { callFrame, hitCount = 0, children = [] } = byId.get(id) as Profiler.ProfileNode
    if (callFrame.functionName === idle) return 0
    const described = describe(callFrame)
    const known = siblings.find(({ name, place }) => name === described.name && place === described.place)
    const frame = known ?? { ...described, self: 0, total: 0, calls: [] }
    if (!known) siblings.push(frame)
    const total = children.reduce((sum, child) => sum + add(child, frame.calls), hitCount)
    frame.self += hitCount
    frame.total += total
    return total
  }
  const [top] = nodes
  const frames: Frame[] = []
  if (top) add(top.id, frames)
  return frames[0] ?? { name: '(root)', place: '', owner: 'native', self: 0, total: 0, calls: [] }
}

/** Every function by itself, those with the most samples first; native ones by who called them. */
export function functionsOf(all: Frame): Omit<Frame, 'calls' | 'total'>[] {
  const found = new Map<string, Omit<Frame, 'calls' | 'total'>>()
  const walk = ({ name, place, owner, self, calls }: Frame, caller: string) => {
    const where = place === '' && caller !== '' ? `from ${caller}` : place
    const key = `${name} ${where}`
    found.set(key, { name, place: where, owner, self: self + (found.get(key)?.self ?? 0) })
    for (const call of calls) walk(call, place === '' ? caller : `${name} ${place}`)
  }
  walk(all, '')
  return [...found.values()].sort((a, b) => b.self - a.self)
}

function createDescriber(root: string) {
  const maps = new Map<string, SourceMap | undefined>()
  /** Of what was built; a package's is left as it runs. */
  function mapOf(file: string): SourceMap | undefined {
    if (!maps.has(file)) {
      const hasMap = !file.includes('node_modules') && existsSync(`${file}.map`)
      maps.set(file, hasMap ? new SourceMap(JSON.parse(readFileSync(`${file}.map`, 'utf8'))) : undefined)
    }
    return maps.get(file)
  }
  return ({ functionName, url, lineNumber, columnNumber }: Profiler.ProfileNode['callFrame']) => {
    const name = functionName || '(anonymous)'
    if (url === '') return { name, place: '', owner: 'native' as const }
    if (url.startsWith('node:')) return { name, place: `${url}:${lineNumber + 1}`, owner: 'Node.js' as const }
    const file = url.startsWith('file:') ? fileURLToPath(url) : url
    const entry = mapOf(file)?.findEntry(lineNumber, columnNumber)
    const [source, line] =
      entry && 'originalSource' in entry
        ? [resolve(dirname(file), entry.originalSource), entry.originalLine]
        : [file, lineNumber]
    const inPackage = source.split('node_modules/').at(-1) as string
    return inPackage === source
      ? { name, place: `${relative(root, source)}:${line + 1}`, owner: 'latchkey' as const }
      : { name, place: `${inPackage}:${line + 1}`, owner: 'packages' as const }
  }
}
