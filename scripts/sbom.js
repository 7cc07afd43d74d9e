/*
 * Writes the software bill of materials of the service to stdout: `npm run --silent sbom`, in CycloneDX; `npm run --silent
 * sbom -- spdx`. It is made by `npm sbom` from the lockfile.
 *
 * Not by its `--omit dev`, which leaves out whatever a package for developers needs as well, such as pg and jose: it reads
 * a copy of the lockfile that never had those packages.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const [format = 'cyclonedx'] = process.argv.slice(2)
const root = join(import.meta.dirname, '..')
const read = (name) => JSON.parse(readFileSync(join(root, name), 'utf8'))

const { devDependencies: _, ...manifest } = read('package.json')
const lock = read('package-lock.json')
delete lock.packages[''].devDependencies
for (const [path, { dev }] of Object.entries(lock.packages)) if (dev) delete lock.packages[path]

const scratch = mkdtempSync(join(tmpdir(), 'latchkey-sbom-'))
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }))
// The name of the directory is that of the component.
const dir = join(scratch, manifest.name)
mkdirSync(dir)
writeFileSync(join(dir, 'package.json'), JSON.stringify(manifest))
writeFileSync(join(dir, 'package-lock.json'), JSON.stringify(lock))

const args = ['sbom', '--package-lock-only', '--sbom-type', 'application', '--sbom-format', format]
const { status, error } = spawnSync('npm', args, { cwd: dir, stdio: ['ignore', 'inherit', 'inherit'] })
if (error) process.stderr.write(`npm could not be started: ${error.message}\n`)
process.exitCode = status ?? 1
