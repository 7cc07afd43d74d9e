import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ConfigError } from '../../config.ts'
import { type Asset, makeAsset, scripts, styleSheet } from '../../pages/assets.ts'
import type { Theme } from '../../pages/page.ts'

declare module 'fastify' {
  interface FastifyInstance {
    theme: Theme
    /** what pages load, by name */
    pageAssets: ReadonlyMap<string, Asset>
  }
}

/** Each visit of a new browser loads it all. */
const mostBytes = 100_000
const files = { css: 'theme.css', logo: 'logo.svg' } as const

/**
 * Reads what an operator gives the pages; once, for no request may name a file.
 *
 * @throws {ConfigError} where there is neither file, or one cannot be read or used
 */
async function readTheme(dir: string): Promise<{ css?: Asset; logo?: Asset }> {
  const expected = (what: string) => new ConfigError(`AUTH_THEME_DIR: expected ${what} in ${JSON.stringify(dir)}`)
  async function read(file: string): Promise<string | undefined> {
    let bytes: Buffer
    try {
      bytes = await readFile(join(dir, file))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT') return undefined
      throw expected(`a ${file} that can be read, got ${code},`)
    }
    if (bytes.length > mostBytes) throw expected(`a ${file} of at most ${mostBytes} bytes`)
    return bytes.toString()
  }
  const [css, logo] = await Promise.all([read(files.css), read(files.logo)])
  if (css === undefined && logo === undefined) throw expected(`${files.css} or ${files.logo}`)
  if (logo !== undefined && !/<svg[\s>]/.test(logo)) throw expected(`an SVG picture as ${files.logo}`)
  return {
    ...(css !== undefined && { css: makeAsset('css', css) }),
    ...(logo !== undefined && { logo: makeAsset('svg', logo) }),
  }
}

export default fp(
  async (app: FastifyInstance) => {
    const { AUTH_THEME_DIR: dir } = app.config
    const { css, logo } = dir === undefined ? {} : await readTheme(dir)
    app.decorate('theme', { ...(css && { css: css.name }), ...(logo && { logo: logo.name }) })
    const assets = [styleSheet, ...Object.values(scripts), css, logo].filter((asset) => asset !== undefined)
    app.decorate('pageAssets', new Map(assets.map((asset) => [asset.name, asset])))
  },
  { name: 'theme' },
)
