/* wrk as the load generator, where it is installed: a request costs it some 4 µs, and bench/generator.ts some 15. */
import { execFile, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Load } from '../load.ts'
import { cpuSeconds, type Measured } from '../meter.ts'
import { makeDir } from '../processes.ts'
import type { Case } from '../rounds.ts'
import { logInAll, type Server } from '../service.ts'

const run = promisify(execFile)

/** Each answer has the token of the next request. wrk asks for one request more than it sends, to look at it. */
const refreshScript = `
local tokens, first, last = {}, 1, 0
local function keep(token) last = last + 1; tokens[last] = token end
function init(args) for token in io.lines(args[1]) do keep(token) end end
function request()
  local token = tokens[first]
  if token then tokens[first] = nil; first = first + 1 end
  return wrk.format('POST', '/token', {['content-type'] = 'application/x-www-form-urlencoded'},
    'grant_type=refresh_token&refresh_token=' .. (token or ''))
end
function response(status, headers, body)
  local token = body:match('"refresh_token":"([^"]+)"')
  if token then keep(token) end
end
function done(summary, latency)
  io.write(string.format('%d %d %d %d\\n', summary.requests, summary.duration, latency:percentile(50), latency:percentile(99)))
  io.write(summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout)
end
`
const plainScript = refreshScript.slice(refreshScript.indexOf('function done'))

export const hasWrk = (): boolean => spawnSync('wrk', ['--version']).error === undefined

/**
 * A case of wrk with one thread, on the last CPU.
 *
 * @param what a request that is repeated, or the name of a user whose sessions are refreshed, one for each connection
 */
export function wrkCase(title: string, { origin, pid }: Server, what: Load | string, connections: number): Case {
  const dir = makeDir()
  const [script, list] = [join(dir, 'load.lua'), join(dir, 'tokens')]
  const load = typeof what === 'string' ? undefined : what
  writeFileSync(script, load ? plainScript : refreshScript)
  const fields = Object.entries(load?.requests[0]?.headers ?? {})
  const headers = fields.flatMap(([name, value]) => ['-H', `${name}: ${value}`])
  const cpu = String(availableParallelism() - 1)
  return {
    title,
    async run(seconds): Promise<Measured> {
      // The answers that were under way at the end of a run are lost, and with them its sessions.
      const sessions = typeof what === 'string' ? await logInAll(origin, Array(connections + 1).fill(what)) : []
      writeFileSync(list, sessions.map(({ refresh_token }) => `${refresh_token}\n`).join(''))
      const before = cpuSeconds(pid) ?? Number.NaN
      const wrk = ['wrk', '-t1', `-c${connections}`, `-d${seconds}s`, '-s', script, ...headers]
      const { stdout } = await run('taskset', ['-c', cpu, ...wrk, origin + (load?.path ?? '/token'), list])
      const cpuUs = ((cpuSeconds(pid) ?? Number.NaN) - before) * 1e6
      const [figures = '', errors = ''] = stdout.trim().split('\n').slice(-2)
      const [answers = 0, us = 0, p50 = 0, p99 = 0] = figures.split(' ').map(Number)
      const [perSecond, p50Ms, p99Ms] = [answers / (us / 1e6), p50 / 1000, p99 / 1000]
      return { perSecond, p50Ms, p99Ms, errors: Number(errors), cpuUs: cpuUs / answers }
    },
  }
}
