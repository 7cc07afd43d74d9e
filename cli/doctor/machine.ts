import { readFileSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import { bytes, type Check, failed, NotKnown, ok, warning } from './check.ts'
import type { Facts } from './facts.ts'

/** What this process may use. The service's own limits are others where it runs under another supervisor. */
export interface MachineFacts {
  /** of Node */
  version: string
  cores: number
  /** of a control group, in processors; undefined without a limit */
  quota: number | undefined
  memoryBytes: number
  /** undefined where it cannot be known */
  mostFiles: number | undefined
  /** undefined without a limit */
  mostFileBytes: number | undefined
}

export function machineFacts(): MachineFacts {
  const limits = textOf('/proc/self/limits')
  const soft = (name: string) => new RegExp(`^${name} +(\\S+)`, 'm').exec(limits)?.[1]
  const fileBytes = soft('Max file size')
  const files = soft('Max open files')
  const constrained = process.constrainedMemory()
  return {
    version: process.versions.node,
    cores: availableParallelism(),
    quota: quota(),
    memoryBytes: constrained > 0 && constrained < totalmem() ? constrained : totalmem(),
    mostFiles: files === undefined ? undefined : Number(files),
    mostFileBytes: fileBytes === undefined || fileBytes === 'unlimited' ? undefined : Number(fileBytes),
  }
}

function quota(): number | undefined {
  const [quota = 'max', period = '100000'] = (
    textOf('/sys/fs/cgroup/cpu.max') ||
    `${textOf('/sys/fs/cgroup/cpu/cpu.cfs_quota_us')} ${textOf('/sys/fs/cgroup/cpu/cpu.cfs_period_us')}`
  )
    .trim()
    .split(/\s+/)
  return Number(quota) > 0 ? Number(quota) / Number(period) : undefined
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** When each release of Node ends: https://github.com/nodejs/release#release-schedule. An odd one is none of them. */
const endOfLife: Record<string, string> = { 20: '2026-04-30', 22: '2027-04-30', 24: '2028-04-30', 26: '2029-04-30' }

/** Resident, in MiB: docs/scaling.md, Several workers on one machine, and docs/operations.md, Under a storm of logins. */
const memoryMiB = { process: 110, load: 150, primary: 77 }

/** What the machine gives, beside what the settings ask of it. */
export const machine: Check<Facts>[] = [
  {
    id: 'node',
    find({ machine: { version }, now }) {
      const [major = '', minor = '0'] = version.split('.')
      const end = endOfLife[major]
      if (Number(major) < 20 || (major === '20' && Number(minor) < 19))
        return failed(`Node.js ${version}`, 'Node.js', 'install 24 or newer; 20.19 is the least')
      if (end === undefined && Number(major) % 2 === 1)
        return warning(`Node.js ${version}, which gets no long support`, 'Node.js', 'install an even one, such as 24')
      if (end !== undefined && now() > Date.parse(end))
        return warning(
          `Node.js ${version}, which gets no security fixes since ${end}`,
          'Node.js',
          'install 24 or newer',
        )
      return ok(`Node.js ${version}`)
    },
  },
  {
    id: 'cores',
    find({ machine: { cores, quota }, config }) {
      const { AUTH_HASH_CONCURRENCY: hashes, AUTH_WORKERS: workers } = config()
      const usable = Math.min(cores, Math.max(1, Math.round(quota ?? cores)))
      const seen = `${usable} for ${hashes} hashes at once and ${workers === 1 ? 'one process' : `${workers} workers`}`
      const setTo = `set it to ${usable}: more at once is not more in a second, and other routes wait for them`
      if (hashes > usable) return warning(seen, 'AUTH_HASH_CONCURRENCY', setTo)
      return workers > usable ? warning(seen, 'AUTH_WORKERS', `set it to ${usable} or less`) : ok(seen)
    },
  },
  {
    id: 'memory',
    find({ machine: { memoryBytes }, config }) {
      const { AUTH_HASH_CONCURRENCY: hashes, AUTH_ARGON2_MEMORY: kib, AUTH_WORKERS: workers } = config()
      const ofHashes = (hashes * kib) / 1024
      const idle = memoryMiB.process * workers + (workers > 1 ? memoryMiB.primary : 0)
      const most = idle + memoryMiB.load * workers + ofHashes
      const seen = `up to ${Math.round(most)} MiB, ${Math.round(ofHashes)} of it for hashes, of ${bytes(memoryBytes)}`
      const mib = memoryBytes / 2 ** 20
      if (most < mib * 0.9) return ok(seen)
      const setting = ofHashes > most / 2 ? 'AUTH_HASH_CONCURRENCY' : workers > 1 ? 'AUTH_WORKERS' : 'the memory limit'
      const advice = `${setting === 'the memory limit' ? 'raise it' : 'lower it, or give it more memory'}: under load it would be killed`
      return idle + ofHashes > mib ? failed(seen, setting, advice) : warning(seen, setting, advice)
    },
  },
  {
    id: 'limits.files',
    find({ machine: { mostFiles } }) {
      if (mostFiles === undefined) throw new NotKnown('there is no /proc here')
      const seen = `${mostFiles} files and connections, in this shell`
      return mostFiles < leastFiles
        ? warning(seen, 'ulimit -n', `allow ${leastFiles} or more where the service is started (systemd: LimitNOFILE)`)
        : ok(seen)
    },
  },
  {
    id: 'limits.file_size',
    find({ machine: { mostFileBytes } }) {
      if (mostFileBytes === undefined) return ok('no limit, in this shell')
      return warning(
        `a file may have ${bytes(mostFileBytes)}, in this shell`,
        'ulimit -f',
        'lift it where the service is started: a store that reaches it takes no writes',
      )
    },
  },
]

const leastFiles = 4096
