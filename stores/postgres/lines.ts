/*
 * Rows that followers read in the order in which they were committed are numbered in lines, see `recording` of
 * `telling.ts`. A cursor is the last number seen in each line.
 */

/**
 * Revocations are numbered in this many independent lines, so that ending sessions waits for no more than every eighth
 * other one.
 */
export const revocationLines = 8

/** The same of audit rows. Those of a user are all in one line, so that followers have them in order. */
export const auditLines = 8

/** A page of rows, each line in the order of its numbers. */
export interface InLine {
  line: number
  number: number
}

/** The numbers of a cursor. Any other text stands before the first. */
export function readPositions(cursor = '', lines: number): number[] {
  const positions = cursor
    .split('.')
    .map((text) => (/^[0-9a-z]{1,11}$/.test(text) ? Number.parseInt(text, 36) : Number.NaN))
  return positions.length === lines && positions.every(Number.isSafeInteger) ? positions : Array(lines).fill(0)
}

export const writePositions = (positions: number[]) => positions.map((position) => position.toString(36)).join('.')

/** Moves positions past the rows of a page. @returns whether a line may have more than the page shows of it */
export function moveOn(positions: number[], rows: InLine[], ofEachLine: number): boolean {
  const counts = Array<number>(positions.length).fill(0)
  for (const { line, number } of rows) {
    positions[line] = Math.max(positions[line] as number, number)
    counts[line] = (counts[line] as number) + 1
  }
  return counts.includes(ofEachLine)
}
