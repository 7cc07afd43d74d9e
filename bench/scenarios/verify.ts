/*
 * How soon `latchkey/verify` refuses: `npm run bench:verify -- [--logouts 240] [--lmdb] [--json]`.
 *
 * From the answer to a `POST /logout` to the refusal by a verifier in another process than the service, which is
 * this one: at the node that it follows, and, over PostgreSQL, at another replica. `--lmdb` leaves PostgreSQL out.
 * What a check costs is in `npm run bench -- --only latchkey-verify,latchkey-verify-new`.
 */
import { createVerifier, VerifierError } from '../../verify/index.ts'
import { signUp } from '../load.ts'
import { makeDir, onEnd } from '../processes.ts'
import { benchSettings, type Server, startServer, writeClients } from '../service.ts'
import { makeSecret } from '../services.ts'
import { openServer } from './postgres.ts'
import { measureLag, progress, readFlags, runScenario } from './scenario.ts'

const { flags } = readFlags({ logouts: 240, lmdb: false })
const user = 'bench'
const issuer = 'http://localhost'
const [clientId, clientSecret] = ['bench', makeSecret()]

await runScenario(async () => {
  const dir = makeDir()
  const settings = {
    ...benchSettings,
    AUTH_ISSUER: issuer,
    AUTH_CLIENTS_FILE: writeClients(dir, [
      { client_id: clientId, client_secret: clientSecret, grants: ['client_credentials'], introspect: true },
    ]),
    // Not what is measured.
    AUTH_INSECURE: '1',
    AUTH_ARGON2_MEMORY: '8',
    AUTH_ARGON2_TIME: '1',
  }
  const start = (name: string, own: Record<string, string>) =>
    startServer({ ...settings, ...own }, `${dir}/${name}.log`)

  /** Logs out at one node, and asks a verifier that follows the other one, or the same. */
  async function lagAt(where: string, followed: Server, closer: Server) {
    const verifier = createVerifier({ issuer, url: followed.origin, clientId, clientSecret })
    onEnd(() => verifier.close())
    await verifier.ready()
    const what = { user, logouts: flags.logouts, concurrency: 4 }
    return measureLag(where, what, followed, closer, ({ access_token }) =>
      verifier.verify(access_token).then(
        () => false,
        (error) => {
          if (error instanceof VerifierError && error.failure === 'revoked') return true
          throw error
        },
      ),
    )
  }

  progress('starting the service …')
  const embedded = await start('lmdb', { AUTH_DATA_DIR: `${dir}/data` })
  await signUp(embedded.origin, user)
  const rows = [await lagAt('LMDB, the node that is followed', embedded, embedded)]
  if (!flags.lmdb) {
    progress('starting PostgreSQL and two replicas …')
    const { url } = await (await openServer()).createDatabase()
    const shared = { DATABASE_URL: url, AUTH_SECRET: makeSecret() }
    const [one, other] = [await start('one', shared), await start('other', shared)]
    await signUp(one.origin, user)
    rows.push(await lagAt('PostgreSQL, the replica that is followed', one, one))
    rows.push(await lagAt('PostgreSQL, another replica', one, other))
  }
  return { 'logout to refusal, ms': rows }
})
