import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { readConfig } from '../../config.ts'
import { totpContext } from '../../domain/factor.ts'
import { countSealed } from '../../plugins/keys/resealing.ts'
import { createSecrets } from '../../plugins/keys/secrets.ts'
import { createRecords } from '../../plugins/records/records.ts'
import { chosenStore, openStore } from '../../stores/open.ts'
import type { Store } from '../../stores/store.ts'
import { makeTotp } from '../stores/factors.ts'
import { makeUser } from '../stores/fill.ts'
import { run, runJson, start } from '../support/cli.ts'
import { cheapHashing, newDir, stores } from '../support/helper.ts'
import { startHere, until } from '../support/processes.ts'
import { root } from '../support/program.ts'

/* AUTH_SECRET is changed, and AUTH_SECRET is lost: docs/keys.md. */

const issuer = { ...cheapHashing, AUTH_ISSUER: 'http://localhost:3000' }
const secretOf = (letter: string) => letter.repeat(40)
const [a, b, c] = ['a', 'b', 'c'].map(secretOf) as [string, string, string]
const day = 86_400_000

async function openOf(t: Test, settings: Record<string, string>): Promise<Store> {
  const store = await openStore(chosenStore(readConfig(settings)))
  t.teardown(() => store.close())
  return store
}

const kinds = {
  code: { prefix: 'lkc_', ttlSeconds: 600, bounds: { perOwner: 1e6, perSource: 1e6 }, isSealed: true },
} as const
const recordsUnder = (store: Store, ...secrets: string[]) =>
  createRecords({ store, secrets: createSecrets(secrets), now: Date.now }, kinds)
const issueUnder = async (store: Store, secret: string, data: unknown) =>
  (await recordsUnder(store, secret).issue('code', { owner: randomUUID(), source: randomUUID(), data }))
    ?.secret as string

/** Gives a new user authenticator apps. @returns what reads their secrets under a secret */
async function enrol(store: Store, secret: string, apps: number) {
  const user = makeUser()
  const next = Array.from({ length: apps }, (_, i) => {
    const totp = makeTotp()
    const sealed = createSecrets([secret]).seal(Buffer.from(`secret ${i}`), totpContext(user.id, totp.id))
    return { ...totp, secret: sealed.toString('base64url') }
  })
  await store.createUser(user)
  await store.changeFactors({ userId: user.id, expectedVersion: 0, next })
  return async (by: string) =>
    (await store.findFactors(user.id))?.factors.map(
      (factor) =>
        factor.kind === 'totp' &&
        createSecrets([by])
          .open(Buffer.from(factor.secret, 'base64url'), totpContext(user.id, factor.id))
          ?.plaintext.toString(),
    )
}

for (const [name, storeSettings] of Object.entries(stores)) {
  t.test(`AUTH_SECRET is changed, and nobody is logged out [${name}]`, async (t) => {
    const clients = join(await newDir(t), 'clients.json')
    await writeFile(clients, JSON.stringify([{ client_id: 'svc', client_secret: 's'.repeat(40) }]))
    const base = { ...issuer, ...(await storeSettings(t)), AUTH_CLIENTS_FILE: clients }
    const [before, both, after] = [
      { ...base, AUTH_SECRET: a },
      { ...base, AUTH_SECRET: b, AUTH_SECRET_PREVIOUS: a },
      { ...base, AUTH_SECRET: b },
    ]
    const latchkey = (args: string, env: Record<string, string> = both) => runJson(args.split(' '), env)
    const isClient = async ({ call }: Awaited<ReturnType<typeof startHere>>) =>
      (
        await call('/token', {
          form: { grant_type: 'client_credentials', client_id: 'svc', client_secret: 's'.repeat(40) },
        })
      ).status === 200

    const old = await startHere(t, before)
    await old.signUp('ada')
    const [first, second, third] = [await old.logIn('ada'), await old.logIn('ada'), await old.logIn('ada')]
    t.match(await latchkey('secret status', before), { code: 0, previous: 'not_set', signing_keys: { current: 1 } })
    const store = await openOf(t, before)
    const totps = await enrol(store, a, 2)
    const record = await issueUnder(store, a, { code: 4711 })
    await issueUnder(store, c, 'of a secret that is long gone')
    await old.close()

    let service = await startHere(t, both)
    t.ok(await isClient(service))
    t.equal(await service.check(first.access_token), 204)
    const refreshed = (await service.refresh(first.refresh_token)).body
    t.match(
      await latchkey('secret status'),
      {
        code: 0,
        previous: 'needed',
        signing_keys: { previous: 1 },
        factors: { current: 0, previous: 2, another: 0 },
        records: { previous: 1, another: 1 },
        sessions: undefined,
      },
      'before it was said that every process has the new one, nobody can know',
    )
    const told = await runJson(['secret', 'rotate'], { ...both, LOG_LEVEL: 'info' })
    t.match(told, {
      ...{ code: 0, previous: 'needed', resealed: { signing_keys: 1, factors: 2, records: 1 }, changed_at: String },
      ...{
        signing_keys: { previous: 0 },
        factors: { current: 2, previous: 0 },
        records: { current: 1, previous: 0, another: 1 },
        clients: [],
      },
      sessions: { live: 3, not_refreshed: 3 },
      stderr: /"event":"secret\.rotated","signing_keys":1,"factors":2,"records":1/,
    })
    const inDays = (Date.parse(told['needed_until']) - Date.now()) / day
    t.ok(inDays > 29.9 && inDays <= 30, 'at the latest when the last session has been idle for too long')
    t.match(await latchkey('secret rotate'), {
      code: 0,
      resealed: { signing_keys: 0, factors: 0, records: 0 },
      changed_at: told['changed_at'],
    })
    t.match(
      await latchkey('secret status', { ...both, AUTH_CLIENTS_FILE: '' }),
      { clients: ['svc'] },
      'as far as it can see',
    )

    const last = []
    for (const { refresh_token } of [refreshed, second]) last.push((await service.refresh(refresh_token)).body)
    t.match(await latchkey('secret status'), {
      previous: 'needed',
      sessions: { not_refreshed: name === 'lmdb' ? 1 : 3 },
    })
    t.match((await run(['secret', 'status'], both)).stdout, /is needed until .*Z at the latest, for sessions that/)
    last.push((await service.refresh(third.refresh_token)).body)
    if (name === 'pg') {
      // Clocks of machines differ: a refresh counts a minute later. Here that minute has passed.
      const { rows } = await store.exportRows('sessions', { limit: 10 })
      await store.importRows(
        'sessions',
        rows.map((session) => ({ ...session, refreshedAt: session.refreshedAt + 61_000 })),
      )
    }
    t.match(await latchkey('secret status'), { code: 0, previous: 'may_go', sessions: { live: 3, not_refreshed: 0 } })
    t.match((await run(['secret', 'rotate'], both)).stdout, /^AUTH_SECRET_PREVIOUS may go\.$/m)
    await service.close()

    service = await startHere(t, after)
    t.ok(await isClient(service))
    for (const { access_token, refresh_token } of last) {
      t.equal(await service.check(access_token), 204)
      t.equal((await service.refresh(refresh_token)).status, 200)
    }
    t.same((await recordsUnder(store, b).take('code', record))?.data, { code: 4711 })
    t.same(await totps(b), ['secret 0', 'secret 1'])
    t.match(await latchkey('secret status', after), { code: 0, previous: 'not_set', signing_keys: { previous: 0 } })
    await service.close()

    for (const [wrong, args] of [
      [{ AUTH_SECRET: c }, 'secret rotate'],
      [{ AUTH_SECRET: c, AUTH_SECRET_PREVIOUS: a }, 'secret status'],
      [{ AUTH_SECRET: a }, 'user list'],
    ] as const) {
      const { code, stdout, stderr } = await run(args.split(' '), { ...base, ...wrong })
      t.match({ code, stdout }, { code: 78, stdout: '' })
      t.match(stderr, /^AUTH_SECRET: .* AUTH_SECRET_PREVIOUS .*latchkey keys remove --all --lost-secret.*\n$/)
    }
  })
}

t.test('sealing anew may be killed at any moment, be repeated, and run twice and beside others', async (t) => {
  const settings = { ...issuer, AUTH_DATA_DIR: await newDir(t), AUTH_SECRET: a }
  const service = await startHere(t, settings)
  await service.close()
  const store = await openOf(t, settings)
  const issued = await Promise.all(Array.from({ length: 1_000 }, (_, n) => issueUnder(store, a, n)))
  const both = { ...settings, AUTH_SECRET: b, AUTH_SECRET_PREVIOUS: a }
  const count = (reseal = false) => countSealed(store, [b, a], { now: Date.now(), reseal, onProgress: () => {} })

  let kills = 0
  for (let left = 1_000; kills < 2 && left > 0; kills++) {
    const child = await start(['secret', 'rotate'], both)
    await until(async () => (await count()).records.previous < left || child.exitCode !== null, 10_000, 0)
    child.kill('SIGKILL')
    await once(child, 'close')
    const { records, signing_keys: keys } = await count()
    t.same(
      [records.current + records.previous, records.another, keys.current],
      [1_000, 0, 1],
      `${records.previous} are left`,
    )
    left = records.previous
  }
  // Two at once, while somebody changes some records and takes others.
  const changing = (async () => {
    for (const secret of issued.slice(0, 50)) {
      const found = await recordsUnder(store, b, a).find('code', secret)
      if (found) await store.missRecord({ kind: 'code', id: found.record.id, now: Date.now() }, 99)
      await sleep(0)
    }
    for (const secret of issued.slice(50, 100)) t.ok(await recordsUnder(store, b, a).take('code', secret))
  })()
  await Promise.all([count(true), count(true), changing])
  t.match(await runJson(['secret', 'rotate'], both), { code: 0, records: { current: 950, previous: 0, another: 0 } })
  const data = await Promise.all(
    issued.map(async (secret) => (await recordsUnder(store, b).take('code', secret))?.data),
  )
  t.same(
    data,
    issued.map((_, n) => (n >= 50 && n < 100 ? undefined : n)),
  )
})

t.test('the secret is lost: the keys that nothing opens go, and the service begins with a new secret', async (t) => {
  const dir = join(await newDir(t), 'data')
  const settings = { ...issuer, AUTH_DATA_DIR: dir }
  const [file, away] = [join(dir, 'secret'), join(dir, 'away')]
  const remove = (input = '', columns?: number, env: Record<string, string> = settings) =>
    run(['keys', 'remove', '--all', '--lost-secret', ...(columns ? [] : ['--yes'])], env, input, columns)
  const startAgain = async () => {
    const service = await startHere(t, settings)
    const tokens = await service.logIn('ada')
    await service.close()
    return tokens
  }
  const service = await startHere(t, settings)
  await service.signUp('ada')
  const lost = await service.logIn('ada')
  await service.close()

  t.match(await remove(), { code: 1, stderr: /^The secret is not lost/ })
  t.match(await run(['keys', 'remove', '--all', '--yes'], settings), { code: 64, stderr: /--lost-secret/ })
  await rename(file, away)
  await t.rejects(startAgain(), { message: /AUTH_SECRET: .*latchkey keys remove --all --lost-secret/ })
  t.match(await remove('', 80), { code: 130, stderr: /everyone logs in again/ }, 'nobody answered')
  t.match(await remove('n\n', 80), { code: 1, stderr: /Nothing was changed/ })
  t.notOk(existsSync(file))
  await t.rejects(startAgain())
  t.match(await remove('y\n', 80), {
    code: 0,
    stderr: /remove 1 signing key that no secret opens, and make a new secret/,
  })
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.match(await remove(), { code: 0, stdout: 'There is nothing to remove: start the service.\n' })

  const anew = await startHere(t, settings)
  t.equal(await anew.check(lost.access_token), 401)
  t.equal((await anew.refresh(lost.refresh_token)).status, 400)
  const tokens = await anew.logIn('ada')
  await anew.close()

  await t.test('cut off behind the new secret, it is repeated', async (t) => {
    const made = readFileSync(file, 'utf8')
    await writeFile(file, 'x'.repeat(40))
    await t.rejects(startAgain())
    t.match(await runJson(['keys', 'remove', '--all', '--lost-secret', '--yes'], settings), {
      ...{ code: 0, removed: [String], secret: 'kept' },
    })
    await startAgain()
    t.not(readFileSync(file, 'utf8'), made)
  })

  await t.test('one that was cut short is as good as none, and one that cannot be read need not be lost', async (t) => {
    await writeFile(file, 'x'.repeat(5))
    t.match(await remove(), { code: 0, stdout: /a secret made/ })
    await startAgain()
    t.match(await remove('', undefined, { ...settings, AUTH_SECRET_FILE: join(dir, 'nothing') }), {
      ...{ code: 78, stderr: /^AUTH_SECRET_FILE: / },
    })
  })
  t.not(tokens.access_token, lost.access_token)
})

t.test('the secret beside an embedded store is changed by what docs/keys.md has people type', async (t) => {
  const block = /^```sh\n(mv .*?)^```$/ms.exec(readFileSync(join(root, 'docs/keys.md'), 'utf8'))?.[1] ?? 'exit 1'
  const dir = await newDir(t)
  const settings = { ...issuer, AUTH_DATA_DIR: join(dir, 'data') }
  const old = await startHere(t, settings)
  await old.signUp('ada')
  const { refresh_token } = await old.logIn('ada')
  await old.close()
  const typed = spawnSync('sh', ['-ec', `${block}\necho $AUTH_SECRET_PREVIOUS_FILE`], { cwd: dir, encoding: 'utf8' })
  t.match(typed, { status: 0, stderr: '' })
  const previous = join(dir, typed.stdout.trim())
  t.equal(statSync(join(dir, 'data/secret')).mode & 0o777, 0o600)
  const service = await startHere(t, { ...settings, AUTH_SECRET_PREVIOUS_FILE: previous })
  t.equal((await service.refresh(refresh_token)).status, 200)
  await service.close()

  t.throws(() => readConfig({ AUTH_SECRET_PREVIOUS_FILE: previous, AUTH_SECRET_PREVIOUS: randomUUID() }), {
    message: 'AUTH_SECRET_PREVIOUS_FILE: expected only one of AUTH_SECRET_PREVIOUS and AUTH_SECRET_PREVIOUS_FILE',
  })
})
