import { extname, join } from 'node:path'

/** The repository: `npm test` runs in it, and compiles to another place. */
export const root = process.cwd()

/** `.js`; `.ts` where something runs the sources as they are. */
const extension = extname(import.meta.filename)

/** @param name of a module of the repository without its extension, such as `test/process/storm.child` */
export const moduleFile = (name: string): string => join(import.meta.dirname, '../..', name + extension)

/** @returns path of a file of the built program, such as `start.cjs` */
export function program(file: string): string {
  if (extension !== '.js') throw new Error('this test starts the built program: run it by `npm test -- FILE`')
  return join(import.meta.dirname, '../..', file)
}
