export interface SigningKeyRecord {
  /** JWK thumbprint, RFC 7638 */
  kid: string
  alg: 'ES256' | 'RS256' | 'EdDSA'
  /** public JWK as JSON */
  publicJwk: string
  /** private key (PKCS #8 DER) sealed under AUTH_SECRET; undefined for a key that the operator keeps */
  sealedPrivateKey?: Uint8Array
  createdAt: number
  /** before this it is published and does not sign */
  signsFrom: number
}
