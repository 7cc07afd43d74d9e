/*
 * What a change costs: the CPU time of the same requests in two builds, or more, which take turns in one process.
 *
 *     npm run bench:pairs -- before=../before/dist after=dist [--only refresh,protected] [--blocks 60] [--json]
 *     npm run bench:pairs -- off=dist on=dist,AUTH_METRICS_PORT=0
 *     npm run bench:pairs -- before=../before/dist,LOG_LEVEL=silent after=dist,LOG_LEVEL=silent --only refused-login
 *     npm run bench:pairs -- off=dist on=dist,OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318
 *
 * Each is called by `inject` on a store of its own, in blocks of some 40 ms, in alternating order; the ratio to the
 * first build is the median of those of neighbouring blocks. So whatever else the machine does meets all alike: on
 * a machine with nothing else to do, a build stays within two percent of itself. Every build gets the modules of this directory, because a second copy of lmdb in
 * the process would not load: a change of a dependency does not show.
 */
import { cpSync, symlinkSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Tracing, wantsTraces } from '../../log/traced.ts'
import { bearerLoad, type Load, loginLoad, nextBodies, signupLoad, type Tokens } from '../load.ts'
import { median, quantile, round } from '../meter.ts'
import { makeDir, onEnd } from '../processes.ts'
import { writeClients } from '../service.ts'
import { loadsOf } from './loads.ts'
import { progress, readFlags, runScenario } from './scenario.ts'

const { flags, positionals } = readFlags({ blocks: 60, only: 'refresh,client-credentials,introspect,protected' })
const connections = 32
const blockUs = 40_000
const warmUpBlocks = 20
const [id, secret] = ['bench', 'a-secret-of-the-benchmark-that-is-long-enough']

type Build = { name: string; send: (load: Load) => Promise<string[]>; loads: Record<string, Load> }

/**
 * @param from a directory with a built program
 * @param own settings, such as `AUTH_METRICS_PORT=0`
 */
async function open(name: string, from: string, own: string[]): Promise<Build> {
  const dir = makeDir()
  cpSync(from, join(dir, 'dist'), { recursive: true })
  cpSync(join(from, '../package.json'), join(dir, 'package.json'))
  symlinkSync(resolve('node_modules'), join(dir, 'node_modules'))
  const load = (file: string) => import(pathToFileURL(join(dir, 'dist', file)).href)
  const { buildApp }: typeof import('../../app.ts') = await load('app.js')
  const { readConfig }: typeof import('../../config.ts') = await load('config.js')
  const settings: Record<string, string> = {
    AUTH_DATA_DIR: join(dir, 'data'),
    AUTH_ISSUER: 'http://localhost',
    AUTH_CLIENTS_FILE: writeClients(dir, [{ client_id: id, client_secret: secret, introspect: 'all' }]),
    AUTH_THROTTLE: 'off',
    AUTH_ACCESS_TTL: '1d',
    LOG_LEVEL: 'warn',
    // Not what is measured.
    ...{ AUTH_INSECURE: '1', AUTH_ARGON2_MEMORY: '8', AUTH_ARGON2_TIME: '1', AUTH_HASH_MAX_WAIT: '60s' },
    ...Object.fromEntries(own.map((setting) => setting.split('='))),
  }
  let tracing: Tracing | undefined
  if (wantsTraces(settings)) {
    // The packages of OpenTelemetry read the environment by themselves.
    Object.assign(process.env, settings)
    tracing = (await load('process/tracing.js')).startTracing(progress)
  }
  const app = await buildApp(readConfig(settings), { tracing })
  onEnd(() => app.close())

  /** Sends each request of a load once, all at the same time. @returns the answers */
  const send = ({ method, path: url, requests, expected, next }: Load) =>
    Promise.all(
      requests.map(async (request) => {
        const { headers, body = '' } = request
        const answer = await app.inject({ method, url, headers, ...(method === 'POST' && { payload: body }) })
        if (answer.statusCode !== expected) throw new Error(`${name}: ${url}: ${answer.statusCode} ${answer.body}`)
        if (next) request.body = nextBodies[next](answer.body) ?? body
        return answer.body
      }),
    )
  const signups = signupLoad(connections)
  const users = signups.requests.map(({ body }) => JSON.parse(body as string).username as string)
  await send(signups)
  const sessions: Tokens[] = (await send(loginLoad(users))).map((answer) => JSON.parse(answer))
  const loads: Build['loads'] = {
    // A login is all but the hash, which is as cheap as can be.
    ...loadsOf(users, sessions, { id, secret }),
    'refused-token': bearerLoad('/protected', Array(connections).fill({ access_token: 'none' }), 401),
    'refused-admin': bearerLoad('/admin/users', sessions, 403),
    'refused-login': { ...loginLoad(users, 'wrong horse battery staple'), expected: 400 },
  }
  return { name, send, loads }
}

await runScenario(async () => {
  if (positionals.length < 2) throw new Error('expected two builds or more, such as before=../before/dist after=dist')
  const builds: Build[] = []
  for (const text of positionals) {
    const [named = '', ...own] = text.split(',')
    const [name = '', dir = name] = named.split('=')
    builds.push(await open(name, resolve(dir), own))
  }
  const rows: object[] = []
  for (const what of flags.only.split(',')) {
    progress(`${what} …`)
    /** CPU time of one request, µs */
    const measure = async ({ send, loads }: Build, times: number) => {
      const load = loads[what]
      if (!load) throw new Error(`--only: expected some of ${Object.keys(loads)}, got ${what}`)
      const before = process.cpuUsage()
      for (let n = 0; n < times; n++) await send(load)
      const { user, system } = process.cpuUsage(before)
      return (user + system) / (times * load.requests.length)
    }
    let times = 10
    const blocks = builds.map((): number[] => [])
    for (let block = -warmUpBlocks; block < flags.blocks; block++) {
      const order = [...builds.entries()]
      if (block % 2 !== 0) order.reverse()
      for (const [index, build] of order) {
        const us = await measure(build, times)
        if (block >= 0) blocks[index]?.push(us)
        else if (index === 0) times = Math.ceil(blockUs / (us * connections))
      }
    }
    for (const [index, { name }] of builds.entries()) {
      const own = blocks[index] as number[]
      const ratios = own.map((us, block) => us / (blocks[0]?.[block] as number))
      const [ofFirst, from, to] = [0.5, 0.25, 0.75].map((share) => round(quantile(ratios, share), 4))
      rows.push({ what, build: name, cpuUs: round(median(own)), ofFirst, from, to })
    }
  }
  return { 'CPU time of a request, as a ratio to the first build, and the middle half of the blocks': rows }
})
