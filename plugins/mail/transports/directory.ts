import { randomUUID } from 'node:crypto'
import { accessSync, constants, mkdirSync } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Mailbox } from '../../../config/mail.ts'
import { toEml } from './eml.ts'
import { MailFailed, type Transport } from './transport.ts'

/**
 * Writes each mail as a file, for development. Links are in them, so nobody else may read them; their names sort by time.
 *
 * @throws {NodeJS.ErrnoException} where the directory cannot be made or written
 */
export function createDirectory(dir: string, from: Mailbox, now: () => number): Transport {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const mayWrite = () => accessSync(dir, constants.W_OK | constants.X_OK)
  mayWrite()

  /** A name that appears at once with all that is in the file. */
  async function write(name: string, content: string): Promise<void> {
    const unfinished = join(dir, `.${randomUUID()}`)
    try {
      const file = await open(unfinished, 'wx', 0o600)
      try {
        await file.writeFile(content)
      } finally {
        await file.close()
      }
      await rename(unfinished, join(dir, name))
    } catch (error) {
      await rm(unfinished, { force: true })
      throw error
    }
  }

  return {
    async send(mail) {
      const at = new Date(now())
      const name = `${at.toISOString().replace(/[-:.]/g, '')}-${mail.kind}-${mail.id.slice(0, 8)}.eml`
      await write(name, toEml(mail, from, at)).catch(failed)
    },
    async check() {
      try {
        mayWrite()
      } catch (error) {
        failed(error as NodeJS.ErrnoException)
      }
    },
    close() {},
  }
}

function failed({ code, message }: NodeJS.ErrnoException): never {
  throw new MailFailed(`the directory cannot be written: ${code ?? message}`)
}
