import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './program.ts'

/* What the tests read in the pages of docs/. */

export const matches = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, name]) => name as string)

/** What stands in `backticks`. */
export const quoted = (cell = '') => matches(cell, /`([^`]+)`/g)

/** The rows of all tables of a text whose head begins with a word, as cells. */
export function rowsIn(text: string, firstHead: string): string[][] {
  const cells = (line: string) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim())
  const rows: string[][] = []
  let isInside = false
  for (const line of text.split('\n')) {
    if (!line.startsWith('|')) isInside = false
    else if (cells(line)[0] === firstHead) isInside = true
    else if (isInside && !/^\|[ :|-]+$/.test(line)) rows.push(cells(line))
  }
  return rows
}

/** The anchor that GitHub makes of a heading. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replaceAll(' ', '-')

/** @param prose a page without its blocks of code */
export const anchorsIn = (prose: string) => matches(prose, /^#+ (.*)$/gm).map(anchorOf)

export const readPage = (path: string) => readFileSync(join(root, path), 'utf8')
