import { accessSync, constants, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { byFile } from '../../config/files.ts'
import { Settings } from '../../config.ts'
import { secretPath } from '../../plugins/keys/secret-file.ts'
import { lmdbDirectory } from '../../stores/lmdb/file.ts'
import { type Check, count, failed, NotKnown, ok, skipped, warning } from './check.ts'
import type { Facts } from './facts.ts'

/** A file or directory, as others on this machine see it. */
export interface FileFact {
  path: string
  mode: number
  uid: number
  isWritable: boolean
}

/** What is there of some paths. Reading changes nothing. */
export function factsOf(paths: string[]): FileFact[] {
  return paths.flatMap((path) => {
    const stats = statOf(path)
    return stats ? [{ path, mode: stats.mode & 0o7777, uid: stats.uid, isWritable: mayWrite(path) }] : []
  })
}

function statOf(path: string) {
  try {
    return statSync(path, { throwIfNoEntry: false })
  } catch {
    // In a directory of others, which is among the paths.
    return undefined
  }
}

function mayWrite(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** What belongs to the embedded store, of which all is private. */
export const pathsOfStore = (dir: string): string[] => [
  dir,
  secretPath(dir),
  lmdbDirectory(dir),
  ...['data.mdb', 'lock.mdb'].map((name) => join(lmdbDirectory(dir), name)),
]

/** Files with secrets that the operator has made. */
export function pathsOfSecrets(env: NodeJS.ProcessEnv): string[] {
  const named = Object.keys(Settings.properties).filter((name) => name.endsWith('_FILE'))
  const paths = named.flatMap((name) => env[name] || [])
  return holdsSecret('.env') ? [...paths, '.env'] : paths
}

function holdsSecret(path: string): boolean {
  try {
    return new RegExp(`^\\s*(export\\s+)?(${byFile.join('|')})\\s*=\\s*\\S`, 'm').test(readFileSync(path, 'utf8'))
  } catch {
    return false
  }
}

const octal = (mode: number) => `0${mode.toString(8).padStart(3, '0')}`
const [ofGroup, ofOthers, sticky] = [0o070, 0o007, 0o1000]
/** Under a user of the platform's choosing it is the group that gives access. What many share is like /tmp. */
const isOpen = ({ mode, uid }: FileFact, own: number) =>
  (mode & sticky) === 0 && (mode & (uid === own ? ofGroup | ofOthers : ofOthers)) !== 0

/** Who may read what is secret. */
export const files: Check<Facts>[] = [
  {
    id: 'files',
    find({ dataFiles, uid }) {
      const [dir, ...rest] = dataFiles
      if (uid === undefined) throw new NotKnown('files have no modes here')
      if (dir === undefined || rest.length === 0)
        return skipped('there is nothing yet, or nothing that this user may see')
      const open = dataFiles.filter((file) => isOpen(file, uid))
      if (open.length === 0) return ok(`${dir.path} and ${rest.length} in it are private`)
      return open.map(({ path, mode }) =>
        warning(
          `others may read ${path}: ${octal(mode)}`,
          path,
          `chmod ${path === dir.path || path.endsWith('/lmdb') ? 700 : 600}; a start does so too, but who has read it?`,
        ),
      )
    },
  },
  {
    id: 'files.owner',
    find({ dataFiles, uid, config }) {
      if (uid === undefined) throw new NotKnown('files have no owners here')
      if (config().DATABASE_URL) return skipped('the store is PostgreSQL')
      if (dataFiles.length === 0) return skipped('there is nothing yet')
      const fixed = dataFiles.find(({ isWritable }) => !isWritable)
      if (fixed)
        return failed(
          `user ${uid} may not write ${fixed.path}, which is of user ${fixed.uid}`,
          'AUTH_DATA_DIR',
          'chown it to the user of the service, or run this as that user; a volume may be mounted read-only',
        )
      const others = dataFiles.filter((file) => file.uid !== uid)
      if (others.length === 0) return ok(`of user ${uid}, who may write`)
      return ok(`of user ${others[0]?.uid}, and user ${uid} may write`, 'run the service and its commands as one user')
    },
  },
  {
    id: 'files.secrets',
    find({ secretFiles }) {
      if (secretFiles.length === 0) return skipped('no setting names a file with a secret')
      const open = secretFiles.filter(({ mode }) => (mode & ofOthers) !== 0)
      if (open.length === 0) return ok(`${count(secretFiles.length, 'file')} with secrets, private`)
      return open.map(({ path, mode }) =>
        warning(`everybody on this machine may read ${path}: ${octal(mode)}`, path, 'chmod 600, or 640 for a group'),
      )
    },
  },
]
