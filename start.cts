/*
 * Where the process begins. Password hashes and the store's commits share libuv's threads, and a pool that hashing fills
 * stalls every commit. Its size is read once, before the first ES module is loaded: hence CommonJS, and this file.
 */
const { loadEnvFile } = require('./config/env-file.cjs') as { loadEnvFile(): string | undefined }
const fs = process.getBuiltinModule('node:fs')
const os = process.getBuiltinModule('node:os')

const problem = loadEnvFile()
if (problem !== undefined) {
  process.stderr.write(`${problem}\n`)
  process.exit(78)
}

/** For the store's commits, file access and name look-ups, beside the hashes. */
const otherThreads = 4
const { AUTH_HASH_CONCURRENCY, AUTH_WORKERS } = process.env
const hashes = Number(AUTH_HASH_CONCURRENCY) || os.availableParallelism()
/** Each of them has its part of the hashes; they inherit the size. */
const workers = AUTH_WORKERS === 'auto' ? os.availableParallelism() : Number(AUTH_WORKERS) || 1

process.env['UV_THREADPOOL_SIZE'] ??= String(Math.min(Math.ceil(hashes / workers), 1020) + otherThreads)

/**
 * Hashes leave the cores to whoever answers requests: with as many of them as there are cores, every other request would wait for
 * its turn. Linux only, where each thread has a niceness of its own. They get their full share of what nobody else wants.
 */
const poolNiceness = 5
const threads = () => (process.platform === 'linux' ? fs.readdirSync('/proc/self/task') : [])

/** A sandbox may have no /proc, or refuse this. Then all threads are alike, and everything works. */
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
  import('./server.ts')
})
