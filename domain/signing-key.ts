/** Signature algorithms of access tokens, each with a kind of key that is for it and no other (RFC 8725 §3.1). */
export const signingAlgs = ['ES256', 'RS256', 'EdDSA'] as const
export type SigningAlg = (typeof signingAlgs)[number]

export interface SigningKeyRecord {
  /** JWK thumbprint, RFC 7638 */
  kid: string
  alg: SigningAlg
  /** public JWK as JSON */
  publicJwk: string
  /** private key (PKCS #8 DER) sealed under AUTH_SECRET; undefined for a key that the operator keeps */
  sealedPrivateKey?: Uint8Array
  createdAt: number
  /** before this it is published and does not sign */
  signsFrom: number
}

/** A signing key without its secrets. */
export interface SigningKeyStatus {
  kid: string
  alg: SigningAlg
  /** published and not signing yet, signing, or only verifying what it signed before */
  state: 'next' | 'current' | 'previous'
  createdAt: number
  signsFrom: number
  /** of a previous one: when it is removed */
  retiresAt?: number
}
