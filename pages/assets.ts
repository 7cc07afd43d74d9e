import { createHash } from 'node:crypto'
import { passkeyScript, submitScript } from './scripts.ts'
import { style } from './style.ts'

/** What pages load: a style sheet, scripts, and what an operator adds. */
export interface Asset {
  /** with a hash of what is in it: another content has another name, so that browsers may keep it for ever */
  name: string
  type: string
  body: string
}

const types = { css: 'text/css', js: 'text/javascript', svg: 'image/svg+xml' } as const

/** @param kind also the end of its name */
export function makeAsset(kind: keyof typeof types, body: string): Asset {
  const hash = createHash('sha256').update(body).digest('base64url').slice(0, 16)
  return { name: `${hash}.${kind}`, type: `${types[kind]}; charset=utf-8`, body }
}

export const styleSheet: Asset = makeAsset('css', style)

/** They are modules here, so that the build and the image cannot be without them. */
export const scripts = {
  passkey: makeAsset('js', passkeyScript),
  submit: makeAsset('js', submitScript),
} as const
export type ScriptName = keyof typeof scripts

export const assetUrl = (publicPath: string, name: string): string => `${publicPath}/pages/${name}`
