import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** The version of the package. */
export const version: string = readVersion(import.meta.dirname)

/** The package is above the sources, and above the folder that they were built to. */
function readVersion(directory: string): string {
  const path = join(directory, 'package.json')
  if (existsSync(path)) return JSON.parse(readFileSync(path, 'utf8')).version
  return readVersion(dirname(directory))
}
