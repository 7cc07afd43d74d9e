import { createPrivateKey, createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { type SigningKeyRecord, signingAlgs } from '../../domain/signing-key.ts'
import { generatePair, publicJwkOf, readKeyFile, type SigningAlg } from './key-material.ts'

/** A key as it is used: verifying needs the public half, signing the private one too. */
export interface SigningKey {
  kid: string
  alg: SigningAlg
  /** as @fastify/jwt takes it */
  publicPem: string
  privateKey: KeyObject | undefined
  /** how AUTH_SECRET stands to what is in the store; undefined where nothing is sealed */
  sealedBy: 'current' | 'previous' | 'another' | undefined
  publicJwk: JsonWebKey
  createdAt: number
  signsFrom: number
}

/** An unknown kid has the store read at most once in this time, so that forged ones cost nothing. */
const lookAgainMs = 1_000

/** What a sealed private key is bound to. */
export const sealContext = (kid: string) => `signing key ${kid}`

/** Makes a key, its private half sealed. @param generate another way to have a pair */
export async function makeSigningKey(
  alg: SigningAlg,
  { seal }: Pick<FastifyInstance['secrets'], 'seal'>,
  times: Pick<SigningKeyRecord, 'createdAt' | 'signsFrom'>,
  generate = generatePair,
): Promise<SigningKeyRecord> {
  const { publicKey, privateKey } = await generate(alg)
  const publicJwk = publicJwkOf(publicKey, alg)
  const kid = publicJwk.kid as string
  const der = privateKey.export({ format: 'der', type: 'pkcs8' })
  return { kid, alg, publicJwk: JSON.stringify(publicJwk), sealedPrivateKey: seal(der, sealContext(kid)), ...times }
}

/** The signing keys as this process knows them, which is how the store had them when it was last read. */
export function createKeyRing({
  config,
  store,
  secrets,
  now,
  uptimeMs,
}: Pick<FastifyInstance, 'config' | 'store' | 'secrets' | 'now' | 'uptimeMs'>) {
  const alg = config.AUTH_SIGNING_ALG
  // ID tokens are signed by what each client has chosen.
  const others = config.AUTH_PAGES === 'on' ? signingAlgs.filter((other) => other !== alg) : []
  const algs: readonly SigningAlg[] = [alg, ...others]
  const operatorKey = config.AUTH_SIGNING_KEY_FILE ? readKeyFile(config.AUTH_SIGNING_KEY_FILE, alg) : undefined

  let keys = new Map<string, SigningKey>()
  /** by algorithm, that of access tokens first, and of each the newest first */
  let known: SigningKey[] = []
  let lookedAtMs = Number.NEGATIVE_INFINITY
  /** the last look, which may be under way or have failed */
  let looked: Promise<void> | undefined

  /** Reads the store, keeping the objects of the keys that are known already. */
  function load(): Promise<void> {
    lookedAtMs = uptimeMs()
    looked = read()
    return looked
  }

  async function read(): Promise<void> {
    const records = await store.listSigningKeys()
    keys = new Map(records.map((record) => [record.kid, keys.get(record.kid) ?? open(record)]))
    const ofAll = [...new Set([...algs, ...signingAlgs])]
    const place = (key: SigningKey) => ofAll.indexOf(key.alg)
    known = [...keys.values()].sort((a, b) => place(a) - place(b) || b.createdAt - a.createdAt)
  }

  function open(record: SigningKeyRecord): SigningKey {
    const { kid, sealedPrivateKey, createdAt, signsFrom } = record
    const publicJwk: JsonWebKey = JSON.parse(record.publicJwk)
    const opened = sealedPrivateKey && secrets.open(sealedPrivateKey, sealContext(kid))
    const unsealed = opened && createPrivateKey({ key: opened.plaintext, format: 'der', type: 'pkcs8' })
    return {
      kid,
      alg: record.alg,
      publicPem: createPublicKey({ key: publicJwk, format: 'jwk' }).export({ format: 'pem', type: 'spki' }) as string,
      privateKey: kid === operatorKey?.kid ? operatorKey.privateKey : unsealed,
      sealedBy: sealedPrivateKey && (!opened ? 'another' : opened.byPrevious ? 'previous' : 'current'),
      publicJwk,
      createdAt,
      signsFrom,
    }
  }

  /**
   * The key that signs now.
   *
   * @returns undefined where none was made yet, and for a command on a store that no service with its settings has used
   */
  function signing(wanted = alg): SigningKey | undefined {
    const own = wanted === alg && operatorKey && keys.get(operatorKey.kid)
    const canSign = (key: SigningKey) => key.alg === wanted && key.privateKey !== undefined
    // The oldest where none is ready yet: the clock was ahead when it was made.
    return own || (known.find((key) => canSign(key) && isReady(key)) ?? known.findLast(canSign))
  }
  const isReady = ({ signsFrom }: SigningKey) => signsFrom <= now()

  return {
    alg,
    algs,
    operatorKey,
    load,
    signing,

    /** @throws where there is none: of access tokens only a command can meet that */
    current(wanted = alg): SigningKey & { privateKey: KeyObject } {
      const key = signing(wanted)
      if (!key?.privateKey) throw new Error('There is no key to sign with')
      return key as SigningKey & { privateKey: KeyObject }
    },
    /**
     * The one that signs in the store's service, which may have other settings than this command: of an algorithm, or of
     * access tokens.
     */
    signingAnywhere(wanted?: SigningAlg): SigningKey | undefined {
      const candidates = known.filter((key) => key.alg === (wanted ?? key.alg))
      return signing(wanted) ?? candidates.find(isReady) ?? candidates.at(-1)
    },

    /** The key of a kid, looked up again when it is unknown: another process may have made it. */
    async find(kid: string): Promise<SigningKey | undefined> {
      // Concurrent requests wait for the same look, and none is told that a key is not ours because we could not look.
      if (!keys.has(kid)) await (uptimeMs() - lookedAtMs >= lookAgainMs ? load() : looked)
      return keys.get(kid)
    },
    get: (kid: string): SigningKey | undefined => keys.get(kid),
    known: (): SigningKey[] => known,
    newest: (wanted = alg): SigningKey | undefined => known.find((key) => key.alg === wanted),
  }
}
