/*
 * Where the process begins. Password hashes and the store's commits share libuv's threads, and a pool that hashing fills
 * stalls every commit. Its size is read once, before the first ES module is loaded: hence CommonJS, and this file.
 */
const os = process.getBuiltinModule('node:os')

/** For the store's commits, file access and name look-ups, beside the hashes. */
const otherThreads = 4
const { AUTH_HASH_CONCURRENCY, AUTH_WORKERS } = process.env
const hashes = Number(AUTH_HASH_CONCURRENCY) || os.availableParallelism()
/** Each of them has its part of the hashes; they inherit the size. */
const workers = AUTH_WORKERS === 'auto' ? os.availableParallelism() : Number(AUTH_WORKERS) || 1

process.env['UV_THREADPOOL_SIZE'] ??= String(Math.min(Math.ceil(hashes / workers), 1020) + otherThreads)
import('./server.ts')
