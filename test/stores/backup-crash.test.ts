import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { openStore, type StoreLocation } from '../../stores/open.ts'
import { run, runJson, start } from '../support/cli.ts'
import { until } from '../support/client-helper.ts'
import { newDir, sharedPostgres } from '../support/helper.ts'
import { isLong } from '../support/processes.ts'
import { runProgram } from '../support/running.ts'
import { fill } from './fill.ts'

/* kill -9 of a backup and of a restore, at any moment of it. */

const postgres = await sharedPostgres()
const secret = 'the secret of all stores in this test file'
const kills = isLong ? 100 : 1
const users = isLong ? 4_000 : 2_000

type Env = Record<string, string>
const locationOf = ({ DATABASE_URL: url, AUTH_DATA_DIR: dir = '' }: Env): StoreLocation =>
  url === undefined ? { kind: 'lmdb', dir } : { kind: 'pg', url }

async function within<T>(env: Env, work: (store: Awaited<ReturnType<typeof openStore>>) => Promise<T>): Promise<T> {
  const store = await openStore(locationOf(env))
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}

/** Kills a command at a moment after it has begun, or lets it end. @returns whether it had ended */
async function killed(args: string[], env: Env, hasBegun: () => boolean | Promise<boolean>): Promise<boolean> {
  const child = await start(args, env)
  const ended = once(child, 'exit')
  await until(async () => child.exitCode !== null || (await hasBegun()), 1)
  await sleep(Math.random() * 400)
  child.kill('SIGKILL')
  const [code] = await ended
  return code === 0
}

t.test('a backup that is killed leaves nothing that looks like one, and the next is made', async (t) => {
  const source = { AUTH_DATA_DIR: await newDir(t), AUTH_SECRET: secret }
  await within(source, (store) => fill(store, users))
  for (let kill = 0; kill < kills; kill++) {
    const out = await newDir(t)
    const file = join(out, 'backup')
    const isDone = await killed(['store', 'backup', file], source, () => readdirSync(out).length > 0)
    const left = readdirSync(out).filter((name) => !name.endsWith('.partial'))
    t.same(left, isDone || existsSync(file) ? ['backup'] : [])
    if (left.length > 0) t.match(await runJson(['store', 'restore', file, '--dry-run'], source), { code: 0 }, 'whole')
    t.match(await runJson(['store', 'backup', join(out, 'next')], source), { code: 0 })
  }
})

t.test('a restore that is killed is all or nothing, and the next one needs no hand', async (t) => {
  const source = { AUTH_DATA_DIR: await newDir(t), AUTH_SECRET: secret }
  await within(source, (store) => fill(store, users))
  const file = join(await newDir(t), 'backup')
  t.match(await runJson(['store', 'backup', file], source), { code: 0 })

  await t.test('lmdb', async (t) => {
    let refused = 0
    for (let kill = 0; kill < kills; kill++) {
      const env = { AUTH_DATA_DIR: join(await newDir(t), 'data'), AUTH_SECRET: secret }
      mkdirSync(env.AUTH_DATA_DIR)
      const hasBegun = () => readdirSync(env.AUTH_DATA_DIR).length > 0
      await killed(['store', 'restore', file], env, hasBegun)
      if (!existsSync(join(env.AUTH_DATA_DIR, 'lmdb'))) {
        if (hasBegun() && refused++ === 0) await refusesToStart(t, env)
        t.match(await runJson(['store', 'restore', file], env), { code: 0 })
      }
      t.match(await runJson(['store', 'check'], env), { code: 0, rows: { users, sessions: users } })
      t.same(
        readdirSync(env.AUTH_DATA_DIR).filter((name) => name.includes('restoring')),
        [],
      )

      // In the place of another: it is the one or the other.
      await within(env, (store) => store.importRows('users', [one]))
      await killed(
        ['store', 'restore', file, '--replace', '--yes'],
        env,
        () => readdirSync(env.AUTH_DATA_DIR).length > 1,
      )
      const { rows } = await runJson(['store', 'check'], env)
      t.ok([users, users + 1].includes(rows.users), `${rows.users} users`)
      t.match(await runJson(['store', 'restore', file, '--replace', '--yes'], env), { code: 0 })
    }
  })

  await t.test('pg', async (t) => {
    for (let kill = 0; kill < kills; kill++) {
      const env = { DATABASE_URL: await postgres.createDatabase(), AUTH_SECRET: secret }
      const isBusy = async () =>
        (
          await postgres.execute(
            `SELECT 1 FROM pg_stat_activity WHERE datname = '${new URL(env.DATABASE_URL).pathname.slice(1)}' AND xact_start IS NOT NULL`,
          )
        ).length > 0
      await killed(['store', 'restore', file], env, isBusy)
      await until(async () => !(await isBusy()))
      const { rows = {} } = await runJson(['store', 'check'], env)
      t.ok([undefined, 0, users].includes(rows.users), `${rows.users} users`)
      t.match(await run(['store', 'restore', file, '--replace', '--yes'], env), { code: 0 })
      t.match(await runJson(['store', 'check'], env), { code: 0, rows: { users, sessions: users } })
    }
  })
})

const one = {
  ...{ id: '00000000-0000-4000-8000-000000000001', username: 'one', nameKey: 'one', passwordHash: 'none', roles: [] },
  ...{ createdAt: 1, generation: 1 },
}

async function refusesToStart(t: Test, env: Env): Promise<void> {
  const service = await runProgram(t, env)
  t.same(await service.ended, { code: 78, signal: null })
  t.match(
    service.output.stderr,
    /^AUTH_DATA_DIR: a restore into .* is running or was interrupted: wait for it, or run it/,
  )
}
