import type { SigningKeyTable } from '../../tables/signing-keys.ts'
import { type Fields, tables } from '../columns.ts'
import { prepare, type Runs } from '../statement.ts'
import { auditing, recorded, telling, toldValues } from '../telling.ts'

const { signingKeys } = tables

/** Of a new signing key: the kid of the one before it, or '', after its own values. */
const follows = `$${signingKeys.count + 1}::text`

export const statements = prepare({
  listSigningKeys: `SELECT ${signingKeys.list} FROM latchkey_signing_keys ORDER BY created_at`,
  // Two that follow the same key both pass the WHERE; the unique (alg, follows) lets one of them in.
  addSigningKey: telling(
    signingKeys.count + 2,
    `
    INSERT INTO latchkey_signing_keys (${signingKeys.list}, follows)
    SELECT ${signingKeys.parameters}, ${follows}
    WHERE ${follows} = coalesce((
        SELECT k.kid FROM latchkey_signing_keys k WHERE k.alg = ${signingKeys.parameter('alg')}
        ORDER BY k.created_at DESC LIMIT 1), '')
      AND NOT EXISTS (
        SELECT 1 FROM latchkey_signing_keys k
        WHERE k.alg = ${signingKeys.parameter('alg')} AND k.created_at >= ${signingKeys.parameter('createdAt')})
    ON CONFLICT DO NOTHING`,
    'kid',
  ),
  removeSigningKey: telling(2, 'DELETE FROM latchkey_signing_keys WHERE kid = $1::text', 'kid'),
  resealSigningKey: `
    UPDATE latchkey_signing_keys SET sealed_private_key = $3::bytea
    WHERE kid = $1::text AND sealed_private_key = $2::bytea
    RETURNING kid`,
  // As `recording`, for several: the line goes on by as many numbers as there are keys at most, $5.
  withdrawSigningKeys: `
    WITH ended AS (
      DELETE FROM latchkey_signing_keys WHERE kid = ANY($4::text[]) RETURNING kid
    ),
    placed AS (
      SELECT kid, row_number() OVER (ORDER BY kid) AS place FROM ended
    ),
    head AS (
      INSERT INTO latchkey_revocation_heads AS h (line, number)
      SELECT $1::smallint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $5::bigint
      FROM placed WHERE place = 1
      ON CONFLICT (line) DO UPDATE SET number = greatest(h.number + $5::bigint, excluded.number)
      RETURNING h.line, h.number
    ),
    recorded AS (
      INSERT INTO latchkey_revocations (line, number, kind, id, revoked_at, expires_at)
      SELECT head.line, head.number - $5::bigint + placed.place, 'key', placed.kid, $2::bigint, $3::bigint
      FROM head, placed
      RETURNING number
    ),${auditing(6, `EXISTS (SELECT 1 FROM recorded) AND EXISTS (SELECT 1 FROM ended WHERE kid = ($4::text[])[g.place])`)}
    SELECT kid FROM ended`,
})

/** The signing keys of the PostgreSQL store. */
export function createSigningKeys({ run, hadEffect }: Runs): SigningKeyTable {
  return {
    listSigningKeys: async () => (await run<Fields>(statements.listSigningKeys)).map(signingKeys.read),
    addSigningKey: (key, expectedNewestKid = '', audit) =>
      hadEffect(statements.addSigningKey, ...signingKeys.values(key), expectedNewestKid, ...toldValues(audit, true)),
    removeSigningKey: (kid, audit) => hadEffect(statements.removeSigningKey, kid, ...toldValues(audit, true)),
    resealSigningKey: (kid, expected, sealed) => hadEffect(statements.resealSigningKey, kid, expected, sealed),
    async withdrawSigningKeys(kids, { now, expiresAt }, audit) {
      const values = [...recorded(now, expiresAt), kids, kids.length, ...toldValues(audit, kids)]
      return (await run<{ kid: string }>(statements.withdrawSigningKeys, ...values)).map(({ kid }) => kid)
    },
  }
}
