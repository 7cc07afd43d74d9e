import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import {
  closeSync,
  createReadStream,
  createWriteStream,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { CommandError, exitCodes } from '../exit.ts'
import type { Bytes } from './imported-user.ts'

/** A file that can be read any number of times, from its beginning. */
export interface Input {
  open(): Bytes
  close(): void
}

/**
 * Opens a file of an import, which is read more than once.
 *
 * @param path `-` for stdin
 * @throws {CommandError} when it cannot be read
 */
export async function openInput(path: string, stdin: Readable): Promise<Input> {
  if (path === '-') return spool(stdin)
  try {
    const file = statSync(path)
    if (!file.isFile() && !file.isDirectory()) return await spool(createReadStream(path))
    const descriptor = openSync(path, 'r')
    readSync(descriptor, new Uint8Array(1))
    closeSync(descriptor)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new CommandError(`${path}: it cannot be read (${code ?? message})`, exitCodes.problems)
  }
  return { open: () => createReadStream(path), close() {} }
}

/**
 * Keeps what comes by a pipe in a temporary file, for the time of the command. It has password hashes, or passwords: it
 * is encrypted under a key that nobody else knows, and has no name.
 */
async function spool(from: Readable): Promise<Input> {
  const dir = mkdtempSync(join(tmpdir(), 'latchkey-import-'))
  const path = join(dir, 'input')
  const descriptor = openSync(path, 'wx+', 0o600)
  try {
    rmSync(dir, { recursive: true })
    const [key, iv] = [randomBytes(32), randomBytes(16)]
    const file = { fd: descriptor, autoClose: false, start: 0 }
    await pipeline(from, createCipheriv('aes-256-ctr', key, iv), createWriteStream('', file))
    return {
      open() {
        const bytes = createDecipheriv('aes-256-ctr', key, iv)
        return createReadStream('', file)
          .on('error', (error) => bytes.destroy(error))
          .pipe(bytes)
      },
      close: () => closeSync(descriptor),
    }
  } catch (error) {
    closeSync(descriptor)
    throw error
  }
}
