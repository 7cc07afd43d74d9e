/*
 * The file `.env` of the working directory. CommonJS without an import, because start.cts reads it before the first ES
 * module is loaded.
 */
const fs: typeof import('node:fs') = process.getBuiltinModule('node:fs')

/** A name, `=`, and a value that may go over several lines in quotes. */
const assignment = /^[ \t]*(export\s+)?[A-Za-z_][\w.-]*\s*=\s*("[^"]*"|'[^']*'|`[^`]*`|[^"'`\n][^\n]*|)[^\n]*$/
const ignored = /^[ \t]*(#[^\n]*)?$/

/**
 * Adds the settings of `.env`, if there is one, to the environment, which takes precedence.
 *
 * @returns what is wrong with the file, in a line that repeats none of it; nothing was added then
 */
function loadEnvFile(path = '.env'): string | undefined {
  let text: string
  try {
    if (fs.statSync(path).isDirectory()) return undefined
    text = fs.readFileSync(path, 'utf8').replaceAll('\r\n', '\n')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return code === 'ENOENT' ? undefined : `${path}: expected a file that can be read, got ${code}`
  }
  const wrong = firstWrongLine(text.split('\n'))
  if (wrong !== undefined) return `${path}: expected NAME=value, a comment or nothing on line ${wrong}`
  process.loadEnvFile(path)
  return undefined
}

function firstWrongLine(lines: string[]): number | undefined {
  for (let first = 0; first < lines.length; ) {
    let next = first + 1
    const line = lines[first] as string
    const quote = /=\s*(["'`])/.exec(line)
    // A quoted value may end on a later line.
    if (quote && !ignored.test(line)) {
      const isOpen = (text: string) => text.slice(quote.index + quote[0].length).indexOf(quote[1] as string) === -1
      while (next < lines.length && isOpen(lines.slice(first, next).join('\n'))) next += 1
    }
    const entry = lines.slice(first, next).join('\n')
    if (!ignored.test(line) && !assignment.test(entry)) return first + 1
    first = next
  }
  return undefined
}

module.exports = { loadEnvFile }
