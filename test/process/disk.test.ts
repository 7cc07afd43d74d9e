import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { checkFile, lmdbFile } from '../../stores/lmdb/file.ts'
import { cheapHashing, newDir, type Tokens } from '../support/helper.ts'
import { type Answer, isLong, type Replica, serviceAt, startHere, startReplica, until } from '../support/processes.ts'
import { moduleFile } from '../support/program.ts'
import { runProgram } from '../support/running.ts'

/*
 * The disk of the embedded store is full, or stalls. Writes are 503 within five seconds, /readyz is false, tokens are
 * still checked, what was answered is on disk, and it heals without a restart.
 */

const boundMs = 5_000
if (isLong) t.setTimeout(300_000)
const settings = { ...cheapHashing, AUTH_ISSUER: 'http://auth.example' }

const canLimit = spawnSync('prlimit', ['--version']).status === 0
const skip = !canLimit && 'no prlimit, which limits the files of a process that runs'
/** No file of the process may become longer: what a full disk is to it. */
const limitFiles = (pid: number, bytes: number | 'unlimited') =>
  spawnSync('prlimit', ['--pid', String(pid), `--fsize=${bytes}:`])

const readiness = async ({ call }: Replica) => (await call('/readyz')).status

async function assertRefused(t: Test, what: string, answering: Promise<Answer>): Promise<void> {
  const { status, headers, text, ms } = await answering
  t.equal(status, 503, `${what} is 503: ${text}`)
  t.match(headers.get('retry-after'), /^[1-9]$/)
  t.ok(ms < boundMs, `${what} after ${ms.toFixed()} ms`)
}

async function assertChecksGoOn(t: Test, { call }: Replica, { access_token: token }: Tokens): Promise<void> {
  for (const [path, status] of [
    ['/protected', 200],
    ['/verify', 204],
    ['/.well-known/jwks.json', 200],
    ['/livez', 200],
  ] as const)
    t.equal((await call(path, { token })).status, status, path)
}

t.test('the disk is full and has room again: nothing acknowledged is lost', { skip }, async (t) => {
  const dataDir = await newDir(t)
  const service = await startReplica(t, { ...settings, AUTH_DATA_DIR: dataDir })
  await service.signUp('ada')
  const sessions = await Promise.all(Array.from({ length: 8 }, () => service.logIn('ada')))
  const kept = await service.logIn('ada')
  t.equal(await readiness(service), 200)

  limitFiles(service.pid, statSync(lmdbFile(dataDir)).size)
  const signedUp = new Map<string, number>()
  /** Some fit into pages that are free already: every answer is kept to. */
  const write = async (round: number) => {
    const name = `newcomer-${round}`
    signedUp.set(name, (await service.signUp(name)).status)
    await Promise.all(
      sessions.map(async (tokens) => {
        const { status, body } = await service.refresh(tokens.refresh_token)
        t.ok(status === 200 || status === 503, `a refresh is ${status}`)
        if (status === 200) Object.assign(tokens, body)
      }),
    )
  }
  for (let round = 0; round < 20; round++) await write(round)
  t.ok([...signedUp.values()].includes(503), 'the disk was full')
  await assertRefused(t, 'readyz', service.call('/readyz'))
  await assertChecksGoOn(t, service, kept)
  t.match(
    service.output.stdout,
    new RegExp(`"reason":"AUTH_DATA_DIR: the store in ${dataDir} cannot be written: (File too large|Input/output)`),
    'the log line names the setting, the directory and the reason',
  )

  limitFiles(service.pid, 'unlimited')
  // Nobody writes.
  const ms = await until(async () => (await readiness(service)) === 200)
  t.ok(ms < 1_000, `ready again after ${ms.toFixed()} ms`)
  for (const [name, status] of signedUp) {
    t.equal((await service.signUp(name)).status, status === 201 ? 409 : 201, `${name} was told ${status}`)
    await service.logIn(name)
  }
  for (const { access_token, refresh_token } of [...sessions, kept]) {
    t.equal(await service.check(access_token), 204)
    t.equal((await service.refresh(refresh_token)).status, 200, 'no session has ended')
  }
  t.same(
    service.refusals.filter(({ status }) => status !== 503 && status !== 409),
    [],
    'nobody was told anything else',
  )
  t.equal(checkFile(lmdbFile(dataDir)), 'all', 'the file is whole')
})

t.test('a first start on a full disk is one line that names the directory, and the next has no trouble', async (t) => {
  const dataDir = join(await newDir(t), 'data')
  // In units of 512 or 1024 bytes.
  const full = await runProgram(t, { ...settings, AUTH_DATA_DIR: dataDir }, { before: 'ulimit -S -f 200' })
  t.equal((await full.ended).code, 1)
  t.match(full.output.stderr, new RegExp(`^AUTH_DATA_DIR: the store in ${dataDir} cannot be written: EFBIG[^\n]*\n$`))
  const next = await runProgram(t, { ...settings, AUTH_DATA_DIR: dataDir })
  await next.listening()
  t.match(next.output.stdout, /a new, empty store/)
})

t.test('the disk stalls: who waits is told in time, and who retries is still logged in', async (t) => {
  const dataDir = await newDir(t)
  const service = await startHere(t, { ...settings, AUTH_DATA_DIR: dataDir, AUTH_REFRESH_GRACE: '2s' })
  await service.signUp('ada')
  const [kept, impatient] = [await service.logIn('ada'), await service.logIn('ada')]

  // Another process has begun to write, and does not come to an end.
  const holder = spawn(process.execPath, [...process.execArgv, moduleFile('test/process/disk.child'), dataDir], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.teardown(() => holder.kill('SIGKILL'))
  await once(holder.stdout, 'data')

  const { refresh_token } = impatient
  await Promise.all([
    assertRefused(t, 'a refresh', service.refresh(refresh_token)),
    assertRefused(t, 'a signup', service.signUp('newcomer')),
    assertChecksGoOn(t, service, kept),
  ])
  await Promise.all([
    assertRefused(t, 'the refresh again', service.refresh(refresh_token)),
    assertRefused(t, 'readyz', service.call('/readyz')),
    assertChecksGoOn(t, service, kept),
  ])
  holder.stdin.end('go on')
  t.ok((await until(async () => (await readiness(service)) === 200)) < boundMs, 'heals')
  // What was on its way has been done since, long after the grace of that rotation.
  await sleep(100)
  const again = await service.refresh(refresh_token)
  t.equal(again.status, 200, again.text)
  t.equal((await service.refresh(again.body.refresh_token)).status, 200)
})

/* The long form: faults of the disk itself, by tools that not every machine has. */

const has = (command: string) => spawnSync(command, ['--version']).status === 0
const skipStrace = !isLong ? 'LATCHKEY_LONG=1' : !has('strace') && 'no strace'
const skipCompiler = !isLong ? 'LATCHKEY_LONG=1' : !has('cc') && 'no C compiler'

/** Injects into the calls of a process that runs. @returns what ends it */
async function inject(t: Test, pid: number, what: string): Promise<() => Promise<unknown>> {
  const args = ['-f', '-p', String(pid), '-o', '/dev/null', '-e', `trace=${what.split(':')[0]}`, '-e', `inject=${what}`]
  const strace = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = once(strace, 'exit')
  t.teardown(() => strace.kill('SIGKILL'))
  await once(strace.stderr, 'data')
  return () => {
    strace.kill('SIGINT')
    return ended
  }
}

for (const fault of ['fdatasync:error=EIO', 'fdatasync:error=ENOSPC', 'slow']) {
  t.test(`the disk fails for a while: ${fault}`, { skip: skipStrace }, async (t) => {
    const dataDir = await newDir(t)
    const settingsHere = { ...settings, AUTH_DATA_DIR: dataDir }
    const service = await startReplica(t, settingsHere)
    await service.signUp('ada')
    const sessions = await Promise.all(Array.from({ length: 8 }, () => service.logIn('ada')))
    const kept = await service.logIn('ada')
    const end = await inject(t, service.pid, fault === 'slow' ? 'fdatasync:delay_enter=7000000' : fault)
    const answers = await Promise.all(
      sessions.map(async (tokens) => {
        const { status, body, ms } = await service.refresh(tokens.refresh_token)
        if (status === 200) Object.assign(tokens, body)
        t.ok(ms < boundMs + 500)
        return status
      }),
    )
    t.same(new Set(answers), new Set([503]))
    await assertChecksGoOn(t, service, kept)
    t.equal(await readiness(service), 503)
    await end()
    t.ok((await until(async () => (await readiness(service)) === 200, 20_000, 50)) < 10_000, 'ready again')
    for (const { refresh_token } of [...sessions, kept]) t.equal((await service.refresh(refresh_token)).status, 200)
    t.equal(checkFile(lmdbFile(dataDir)), 'all')
    t.same(
      service.refusals.filter(({ status }) => status !== 503),
      [],
    )
  })
}

/** Fails what ends a commit, the write of a meta page, and no other write, while a file is there. */
const failing = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>
static ssize_t put(const char *name, int fd, const void *data, size_t length, off_t at) {
  ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, name);
  ssize_t written = real(fd, data, length, at);
  if (length >= 4096 || at >= 8192 || access(getenv("FAILS"), F_OK) != 0) return written;
  errno = EIO;
  return -1;
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return put("pwrite", fd, data, length, at); }
ssize_t pwrite64(int fd, const void *data, size_t length, off_t at) { return put("pwrite64", fd, data, length, at); }
`

t.test(
  'the disk fails where a commit ends: 503, exit 69, and the next start goes on',
  { skip: skipCompiler },
  async (t) => {
    const dir = await newDir(t)
    const [library, fails] = [join(dir, 'failing.so'), join(dir, 'fails')]
    const compiled = spawnSync('cc', ['-shared', '-fPIC', '-x', 'c', '-', '-o', library, '-ldl'], { input: failing })
    t.equal(compiled.status, 0, compiled.stderr.toString())
    const settingsHere = { ...settings, AUTH_DATA_DIR: join(dir, 'data'), LD_PRELOAD: library, FAILS: fails }
    const first = await runProgram(t, settingsHere)
    const service = serviceAt(await first.listening())
    await service.signUp('ada')
    const sessions = await Promise.all(Array.from({ length: 8 }, () => service.logIn('ada')))
    writeFileSync(fails, '')
    const answers = await Promise.all(
      sessions.map(({ refresh_token }) =>
        service.refresh(refresh_token).then(
          ({ status }) => status,
          () => 'cut',
        ),
      ),
    )
    t.ok(answers.includes(503) && !answers.includes(200), `no answer says that it was done: ${answers}`)
    t.equal((await first.ended).code, 69)
    t.match(first.output.stdout, /"event":"store.broken"[^\n]*AUTH_DATA_DIR: the store in [^\n]* cannot be read/)
    rmSync(fails)
    const next = serviceAt(await (await runProgram(t, settingsHere)).listening())
    for (const { refresh_token } of sessions) t.equal((await next.refresh(refresh_token)).status, 200)
    t.equal(checkFile(lmdbFile(join(dir, 'data'))), 'all')
  },
)
