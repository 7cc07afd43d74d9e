/*
 * Where the process begins. Password hashes and the store's commits share libuv's thread pool, and a pool full of
 * hashes stalls every commit. Node reads its size once, before the first ES module is loaded: hence this file, in
 * CommonJS.
 */
const { loadEnvFile } = require('./config/env-file.cjs') as { loadEnvFile(): string | undefined }
const { runBundle } = require('./process/bundle.cjs') as { runBundle(): object | undefined }
const fs = process.getBuiltinModule('node:fs')
const os = process.getBuiltinModule('node:os')

const problem = loadEnvFile()
if (problem !== undefined) {
  process.stderr.write(`${problem}\n`)
  process.exit(78)
}

/** Beside the hashes: for the store's commits, files and name look-ups. */
const otherThreads = 4
const { AUTH_HASH_CONCURRENCY, AUTH_WORKERS } = process.env
const hashes = Number(AUTH_HASH_CONCURRENCY) || os.availableParallelism()
/** Each worker has a share of the hashes, and inherits the size from the primary. */
const workers = AUTH_WORKERS === 'auto' ? os.availableParallelism() : Number(AUTH_WORKERS) || 1

process.env['UV_THREADPOOL_SIZE'] ??= String(Math.min(Math.ceil(hashes / workers), 1020) + otherThreads)

/**
 * Hashing threads are nicer than the thread that answers requests: otherwise hashes on every core would slow down each
 * request. Idle cores are theirs in full. On Linux only, where each thread has its own niceness.
 */
const poolNiceness = 5
const threads = () => (process.platform === 'linux' ? fs.readdirSync('/proc/self/task') : [])

/** A sandbox may have no /proc, or forbid this. All threads have the same priority then. */
function attempt<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch {
    return undefined
  }
}

const others = attempt(() => new Set(threads()))
// The first use of the pool starts all of its threads.
fs.stat('.', () => {
  attempt(() => {
    for (const thread of threads()) if (others && !others.has(thread)) os.setPriority(Number(thread), poolNiceness)
  })
  if (!runBundle()) import('./server.ts')
})
