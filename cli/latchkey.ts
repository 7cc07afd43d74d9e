#!/usr/bin/env node
import { createRequire } from 'node:module'
import { exitCodes } from './exit.ts'
import { main } from './main.ts'

const hangingMs = 300

const { loadEnvFile } = createRequire(import.meta.url)('../config/env-file.cjs') as {
  loadEnvFile(): string | undefined
}

// `latchkey user list | head`: nobody reads on. A command that writes a file to stdout hears of it by itself.
process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
  if (process.stdout.listenerCount('error') > 1) return
  process.exit(code === 'EPIPE' ? exitCodes.fine : exitCodes.problems)
})

// The exit code is set rather than exited with: a last turn of the event loop lets the output out.
const problem = loadEnvFile()
if (problem === undefined) {
  process.exitCode = await main(process.argv.slice(2), process)
  // What still hangs, such as a disk that does not answer the doctor, has been reported, and keeps nobody waiting.
  setTimeout(() => process.exit(), hangingMs).unref()
} else {
  process.stderr.write(`${problem}\n`)
  process.exitCode = exitCodes.setting
}
