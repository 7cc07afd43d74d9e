import { execFile } from 'node:child_process'
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { makeClient, tokenOf } from '../support/client-helper.ts'
import { listen, newDir, onOneStore } from '../support/helper.ts'
import { root } from '../support/program.ts'

/* `npm pack ./verify`: what a service installs that only checks tokens. */

const run = promisify(execFile)
const readJson = async (path: string) => JSON.parse(await readFile(path, 'utf8'))

/**
 * Packs the package, and unpacks it into the node_modules of an empty project, with links to the dependencies that it
 * declares.
 */
async function install(t: Test): Promise<string> {
  const [source, project] = [await newDir(t), await newDir(t)]
  const from = (...path: string[]) => join(root, 'node_modules', ...path)
  // Packing builds, and not in the sources that other tests read.
  for (const name of ['verify', 'domain', 'tsconfig.json', 'LICENSE', 'package.json'])
    await cp(join(root, name), join(source, name), { recursive: true })
  await symlink(from(), join(source, 'node_modules'))
  // The sources have their types checked by another.
  const tsconfig = await readJson(join(source, 'tsconfig.json'))
  tsconfig.compilerOptions.noCheck = true
  await writeFile(join(source, 'tsconfig.json'), JSON.stringify(tsconfig))
  await run('npm', ['pack', './verify', '--pack-destination', project, '--offline'], { cwd: source })

  const to = (...path: string[]) => join(project, 'node_modules', ...path)
  await mkdir(to('latchkey-verify'), { recursive: true })
  const { name, version, dependencies } = await readJson(join(root, 'verify/package.json'))
  await run('tar', ['-xzf', `${name}-${version}.tgz`, '-C', to(name), '--strip-components=1'], { cwd: project })
  for (const dependency of Object.keys(dependencies)) await symlink(from(dependency), to(dependency))
  await writeFile(join(project, 'package.json'), '{ "type": "module" }')
  return project
}

/**
 * Compiles as users do. @returns what is wrong with their files or with the types of the package; what they lean on
 * (Fastify, Node) is not ours to check
 */
async function misfits(project: string): Promise<string[]> {
  const usual = ['--noEmit', '--strict', '--target', 'es2022', '--lib', 'es2022', '--types', 'node', '--listFiles']
  // Registering and routing takes the compiler longer than all else, and is the same once the types are found.
  const uses = [
    ['check.ts', 'app.ts', '--module', 'nodenext'],
    ['check.ts', '--module', 'esnext', '--moduleResolution', 'bundler'],
  ]
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  const found = await Promise.all(
    uses.map(async (use) => {
      const { stdout } = await run(process.execPath, [tsc, ...use, ...usual], { cwd: project }).catch((error) => error)
      const lines: string[] = stdout.split('\n')
      const wrong = lines.filter(
        (line) => / error TS/.test(` ${line}`) && !/^\S*node_modules.(?!latchkey-verify)/.test(line),
      )
      // At least `index.d.ts`, and one that it has its types from.
      const types = lines.filter((line) => /latchkey-verify.*\.d\.ts$/.test(line))
      return types.length < 2 ? [`${use}: finds ${types}: ${stdout}`] : wrong
    }),
  )
  return found.flat()
}

t.test('its version and its dependencies are those of the service', async (t) => {
  const [service, own] = [await readJson(join(root, 'package.json')), await readJson(join(root, 'verify/package.json'))]
  t.equal(own.version, service.version)
  t.same(own.engines, service.engines)
  for (const [name, range] of Object.entries(own.dependencies)) t.equal(range, `^${service.dependencies[name]}`, name)
})

onOneStore('packed and installed, it checks a token of the service, and its types fit', async (t, build) => {
  const project = await install(t)
  const { app, config } = await build()
  const { id, secret } = await makeClient(app, { id: 'files', introspect: 'audience', scopes: ['files:read'] })
  const options = { issuer: config.AUTH_ISSUER, url: await listen(app), clientId: id, clientSecret: secret }
  await writeFile(
    join(project, 'check.js'),
    `import latchkeyVerify, { createVerifier, VerifierError } from 'latchkey-verify'
     const verifier = createVerifier(${JSON.stringify(options)})
     const { sub } = await verifier.verify(process.argv[2], { scope: 'files:read' })
     const error = await verifier.verify('forged').catch((error) => error)
     console.log(JSON.stringify([sub, verifier.status.feed, error instanceof VerifierError, typeof latchkeyVerify]))
     await verifier.close()`,
  )
  const { stdout } = await run(process.execPath, ['check.js', await tokenOf(app, { id, secret })], { cwd: project })
  t.same(JSON.parse(stdout), ['files', 'following', true, 'function'])
  t.match(await readFile(join(project, 'node_modules/latchkey-verify/LICENSE'), 'utf8'), /Apache License/)

  for (const name of ['fastify', '@types'])
    await symlink(join(root, 'node_modules', name), join(project, 'node_modules', name))
  await writeFile(
    join(project, 'check.ts'),
    `import type { FastifyInstance, FastifyRequest, onRequestHookHandler } from 'fastify'
     import { type Claims, createVerifier } from 'latchkey-verify'
     export const guard = (app: FastifyInstance): onRequestHookHandler => app.requireToken({ role: 'clerk' })
     export const subject = ({ token }: FastifyRequest): string => token.sub
     export const claims: Claims = await createVerifier({ issuer: 'https://auth.example.com' }).verify('x')
     // @ts-expect-error a misspelt option
     createVerifier({ isuer: '' })`,
  )
  await writeFile(
    join(project, 'app.ts'),
    `import Fastify from 'fastify'
     import latchkeyVerify from 'latchkey-verify'
     const app = Fastify()
     await app.register(latchkeyVerify, { issuer: 'https://auth.example.com' })
     app.get('/', { onRequest: app.requireToken({ role: 'clerk' }) }, async ({ token }): Promise<string> => token.sub)`,
  )
  t.same(await misfits(project), [])
})
