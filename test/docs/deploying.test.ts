import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { parse, parseAllDocuments } from 'yaml'
import { readConfig, Settings } from '../../config.ts'
import { mostStaleMs } from '../../plugins/tokens/revocations.ts'
import { newDir } from '../support/helper.ts'
import { root } from '../support/program.ts'

/* What is in deploy/, docker-compose.yml and the workflows fits the code: names, ports, paths, users and times. */

// biome-ignore lint/suspicious/noExplicitAny: what it holds is checked below
type Yaml = any

const read = (path: string) => readFile(join(root, path), 'utf8')
const manifest = JSON.parse(await read('package.json')) as { version: string; scripts: Record<string, string> }
const settings = Object.keys(Settings.properties)
const defaultOf = (name: keyof typeof Settings.properties) => String(Settings.properties[name].default)
const graceSeconds = Number.parseInt(defaultOf('AUTH_SHUTDOWN_GRACE'), 10)
const health = await read('routes/health.ts')

const dockerfile = await read('Dockerfile')
const [, imageUser] = /^USER (\d+):\d+$/m.exec(dockerfile) ?? []
const imageEnv = Object.fromEntries(
  (/^FROM node:\d+-slim\nENV (.*)$/m.exec(dockerfile)?.[1] ?? '').split(' ').map((pair) => pair.split('=')),
)
const imageCommand = JSON.parse(/^CMD (\[.*\])$/m.exec(dockerfile)?.[1] ?? '[]') as string[]

/** Every document of a directory, with the name of its file. */
async function documentsIn(dir: string): Promise<Yaml[]> {
  const files = (await readdir(join(root, dir))).filter((name) => name.endsWith('.yaml'))
  const texts = await Promise.all(files.map((name) => read(join(dir, name))))
  return texts.flatMap((text) => parseAllDocuments(text).map((document) => document.toJS({ mapAsMap: false })))
}

const kubernetes = 'deploy/kubernetes'
const common = await documentsIn(join(kubernetes, 'common'))
const beside = await documentsIn(kubernetes)

for (const variant of ['replicas', 'single']) {
  t.test(`deploy/kubernetes/${variant} fits the image and the settings`, async (t) => {
    const own = await documentsIn(join(kubernetes, variant))
    const all: Yaml[] = [...common, ...own, ...beside]
    const customization = own.find(({ kind }) => kind === 'Kustomization')
    const workload = own.find(({ kind }) => ['Deployment', 'StatefulSet'].includes(kind))
    const pod = workload.spec.template
    const [container] = pod.spec.containers

    await t.test('its settings are accepted, without a warning', async (t) => {
      const dir = await newDir(t)
      const files: Record<string, string> = {
        AUTH_SECRET_FILE: 'x'.repeat(48),
        DATABASE_URL_FILE: 'postgres://latchkey:password@db/latchkey',
      }
      const env: Record<string, string> = { ...imageEnv }
      for (const literal of customization.configMapGenerator[0].literals) {
        const [name, ...text] = literal.split('=')
        env[name] = text.join('=')
      }
      for (const { name, value, valueFrom } of container.env) {
        if (valueFrom) env[name] = container.resources.requests[valueFrom.resourceFieldRef.resource.split('.')[1]]
        else if (name in files) {
          const mount = container.volumeMounts.find(({ mountPath }: Yaml) => value.startsWith(`${mountPath}/`))
          t.ok(mount?.readOnly, `${value} is mounted`)
          env[name] = join(dir, name)
          await writeFile(env[name], files[name] as string)
        } else env[name] = value
      }
      t.same(
        Object.keys(env).filter((name) => name !== 'NODE_ENV' && !settings.includes(name)),
        [],
      )
      const config = readConfig(env)
      t.same(config.warnings, [])
      const ports = Object.fromEntries(container.ports.map(({ name, containerPort }: Yaml) => [name, containerPort]))
      t.same(ports, { http: config.PORT, metrics: config.AUTH_METRICS_PORT })
      t.equal(config.DATABASE_URL !== undefined, variant === 'replicas')
      if (variant === 'single') t.equal(container.volumeMounts[0].mountPath, config.AUTH_DATA_DIR, 'the volume')

      // Contract section 8: when idle, under load, and a hash for each core that is asked for.
      const mib = (text: string) => Number(/^(\d+)Mi$/.exec(text)?.[1])
      const mostMB = 110 + 150 + (config.AUTH_HASH_CONCURRENCY * config.AUTH_ARGON2_MEMORY) / 1000
      t.ok(mib(container.resources.requests.memory) * 1.048 > mostMB, `it asks for more than ${mostMB} MB`)
      t.ok(mib(container.resources.limits.memory) > mib(container.resources.requests.memory))
    })

    await t.test('it needs no right, no uid of its own, and no disk but the volume', async (t) => {
      t.ok(Number(imageUser) > 0, 'the user of the image is a number, so that runAsNonRoot can be told')
      t.equal(pod.spec.securityContext.runAsNonRoot, true)
      t.equal(pod.spec.securityContext.seccompProfile.type, 'RuntimeDefault')
      for (const context of [pod.spec.securityContext, container.securityContext]) {
        t.notOk('runAsUser' in context || 'runAsGroup' in context, 'any uid, as OpenShift gives one')
      }
      t.same(container.securityContext, {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      })
      t.equal(pod.spec.automountServiceAccountToken, false)
      t.equal(pod.spec.enableServiceLinks, false)
    })

    await t.test('probes ask what there is, and the end has the time that it takes', async (t) => {
      const { startupProbe, livenessProbe, readinessProbe } = container
      for (const probe of [startupProbe, livenessProbe, readinessProbe]) {
        t.match(health, `'${probe.httpGet.path}'`)
        t.equal(probe.httpGet.port, 'http')
      }
      t.same(
        [startupProbe, livenessProbe, readinessProbe].map(({ httpGet }) => httpGet.path),
        ['/livez', '/livez', '/readyz'],
      )
      // So long a replica checks tokens without its database.
      t.equal(readinessProbe.periodSeconds * readinessProbe.failureThreshold * 1000, mostStaleMs)
      const mostSeconds = container.lifecycle.preStop.sleep.seconds + graceSeconds
      t.ok(pod.spec.terminationGracePeriodSeconds > mostSeconds, `more than ${mostSeconds} s`)
    })

    await t.test('names lead to one another', async (t) => {
      const { labels } = pod.metadata
      const selectors = all.flatMap(({ kind, spec }) => {
        if (kind === 'Service') return [spec.selector]
        if (['NetworkPolicy'].includes(kind)) return [spec.podSelector.matchLabels]
        return spec?.selector?.matchLabels ? [spec.selector.matchLabels] : []
      })
      t.ok(selectors.length >= 5)
      for (const selector of selectors) t.same(selector, labels)
      const portNames = container.ports.map(({ name }: Yaml) => name)
      for (const { spec } of all.filter(({ kind }) => kind === 'Service'))
        for (const { targetPort } of spec.ports) t.ok(portNames.includes(targetPort), targetPort)
      for (const { spec } of all.filter(({ metadata }) => metadata?.name === 'latchkey-in'))
        for (const { ports } of spec.ingress) for (const { port } of ports) t.ok(portNames.includes(port), port)
      const { backend } = beside.find(({ kind }) => kind === 'Ingress').spec.rules[0].http.paths[0]
      const service = all.find(({ kind, metadata }) => kind === 'Service' && metadata.name === backend.service.name)
      t.ok(service.spec.ports.some(({ name }: Yaml) => name === backend.service.port.name))
      for (const resource of customization.resources)
        t.ok(existsSync(join(root, kubernetes, variant, resource)), resource)
      t.equal(customization.images[0].name, container.image)
      t.equal(customization.images[0].newTag, manifest.version, 'the version of this release')
    })
  })
}

t.test('the two ways on Kubernetes run the same container, but for their stores', async (t) => {
  const containers = await Promise.all(
    ['replicas', 'single'].map(async (variant) => {
      const workload = (await documentsIn(join(kubernetes, variant))).find(({ spec }) => spec?.template)
      const { env, volumeMounts: _, ...container } = workload.spec.template.spec.containers[0]
      return { ...container, env: env.filter(({ name }: Yaml) => !name.endsWith('_FILE')) }
    }),
  )
  t.same(containers[1], containers[0])
})

t.test('deploy/latchkey.service fits the code', async (t) => {
  const unit = await read('deploy/latchkey.service')
  const valuesOf = (name: string) =>
    [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, value = '']) => value)
  t.same(
    valuesOf('ExecStart')[0]?.split(' ').slice(1),
    imageCommand.slice(1).map((part) => part.replace(/^dist/, '/opt/latchkey/dist')),
  )
  const names = valuesOf('Environment').flatMap((line) => line.split(' ').map((pair) => pair.split('=')[0] as string))
  t.same(names.sort(), ['AUTH_DATA_DIR', 'AUTH_SECRET_FILE', 'NODE_ENV'])
  t.ok(Number(valuesOf('TimeoutStopSec')[0]) > graceSeconds)
  t.match(await read('server.ts'), /badConfigExitCode = 78\n/)
  t.same(valuesOf('RestartPreventExitStatus'), ['78'])
})

t.test('the compose files fit the settings, and every file that they mount is there', async (t) => {
  for (const path of ['docker-compose.yml', 'deploy/compose.observability.yml']) {
    const { services } = parse(await read(path), { merge: true }) as Yaml
    for (const [name, service] of Object.entries(services) as [string, Yaml][]) {
      const isLatchkey = name.startsWith('latchkey-')
      const set = Object.keys(service.environment ?? {})
      if (isLatchkey)
        t.same(
          set.filter((setting) => !settings.includes(setting)),
          [],
          name,
        )
      for (const volume of service.volumes ?? []) {
        const [from] = volume.split(':')
        if (from.startsWith('./')) t.ok(existsSync(join(root, from)), from)
      }
      // The second file adds to the replicas of the first.
      if (isLatchkey && service.image === undefined) continue
      t.ok(service.mem_limit && service.pids_limit && service.logging.options['max-size'], `${name} is bounded`)
      t.ok(service.healthcheck || name === 'secrets' || name === 'proxy', `${name} tells whether it is well`)
      if (isLatchkey) t.ok(Number.parseInt(service.stop_grace_period, 10) > graceSeconds)
      if (!['postgres', 'secrets'].includes(name)) t.match(service, { read_only: true, cap_drop: ['ALL'] }, name)
    }
  }
})

t.test('Prometheus asks the replicas of docker-compose.yml on their port', async (t) => {
  const { services } = parse(await read('deploy/compose.observability.yml'), { merge: true }) as Yaml
  const targets = Object.entries(services as Record<string, Yaml>)
    .filter(([, { environment }]) => environment?.AUTH_METRICS_PORT)
    .map(([name, { environment }]) => `${name}:${environment.AUTH_METRICS_PORT}`)
  const { scrape_configs: jobs } = parse(await read('deploy/prometheus.yml')) as Yaml
  t.same(jobs.flatMap((job: Yaml) => job.static_configs[0].targets).sort(), targets.sort())
})

t.test('workflows pin every action by its commit, and begin without rights', async (t) => {
  const dir = '.github/workflows'
  for (const name of await readdir(join(root, dir))) {
    const text = await read(join(dir, name))
    const { permissions, jobs } = parse(text) as Yaml
    t.same(permissions, { contents: 'read' }, name)
    const steps: Yaml[] = Object.values(jobs as Record<string, Yaml>).flatMap((job) => job.steps)
    for (const { uses, run } of steps) {
      if (uses) t.match(text, new RegExp(`${uses.replace(/[.]/g, '\\.')} # v\\d+\\.\\d+\\.\\d+\n`), uses)
      if (uses) t.match(uses, /@[0-9a-f]{40}$/)
      // What others can name does not become part of a script.
      if (run) t.notMatch(run, /\$\{\{ *(github\.(event|head_ref|ref)|inputs)/)
    }
  }
})

t.test('the bill of materials has every package that is installed for production, and no other', async (t) => {
  t.equal(manifest.scripts['sbom'], 'node scripts/sbom.js')
  const { status, stdout } = spawnSync(process.execPath, ['scripts/sbom.js'], { cwd: root, encoding: 'utf8' })
  t.equal(status, 0)
  const { components } = JSON.parse(stdout) as { components: { 'bom-ref': string; hashes: unknown[] }[] }
  const { packages } = JSON.parse(await read('package-lock.json')) as {
    packages: Record<string, { dev?: boolean; version: string }>
  }
  const installed = Object.entries(packages)
    .filter(([path, { dev }]) => path !== '' && !dev)
    .map(([path, { version }]) => `${path.replace(/^.*node_modules\//, '')}@${version}`)
  t.ok(installed.length > 100)
  t.same([...new Set(components.map((component) => component['bom-ref']))].sort(), [...new Set(installed)].sort())
  t.ok(
    components.every(({ hashes }) => hashes.length > 0),
    'each by its hash',
  )
})
