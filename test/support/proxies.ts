import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { Agent, createServer, type IncomingMessage, request } from 'node:http'
import { connect, createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'tap'
import { newDir } from './helper.ts'
import { until } from './processes.ts'
import { root } from './program.ts'

/* Proxies in front of two replicas, which are on the ports that each is given. */

/** @returns the origin of the proxy, or why there is none on this machine */
export type StartProxy = (t: Test, ports: [number, number]) => Promise<{ origin: string } | { missing: string }>

export async function freePort(): Promise<number> {
  const server = createTcpServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

/**
 * In this process: replicas that are ready take turns, connections are kept, and a request goes to the next replica only
 * where it was not sent, or may be sent twice.
 */
export const startRoundRobin: StartProxy = async (t, ports) => {
  const replicas = ports.map((port) => ({ port, agent: new Agent({ keepAlive: true }), isReady: true }))
  let turn = 0
  const checks = setInterval(() => {
    for (const replica of replicas) {
      fetch(`http://127.0.0.1:${replica.port}/readyz`, { headers: { connection: 'close' } }).then(
        ({ status }) => {
          replica.isReady = status === 200
        },
        () => {
          replica.isReady = false
        },
      )
    }
  }, 100)

  function send({ method = 'GET', url = '/', headers }: IncomingMessage, body: Buffer, to: number) {
    const ready = replicas.filter(({ isReady }) => isReady)
    const { port, agent } = ready[to % ready.length] ?? (replicas[to % replicas.length] as (typeof replicas)[number])
    return new Promise<IncomingMessage>((resolve, reject) => {
      const options = { host: '127.0.0.1', port, agent, method, path: url }
      request({ ...options, headers: { ...headers, connection: 'keep-alive' } }, resolve)
        .on('error', reject)
        .end(body)
    })
  }

  const server = createServer(async (incoming, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of incoming) chunks.push(chunk)
    const body = Buffer.concat(chunks)
    const to = turn++
    try {
      const answer = await send(incoming, body, to).catch((error: NodeJS.ErrnoException) => {
        if (incoming.method !== 'GET' && error.code !== 'ECONNREFUSED') throw error
        return send(incoming, body, to + 1)
      })
      const { connection: _, ...headers } = answer.headers
      answer.pipe(response.writeHead(answer.statusCode ?? 502, headers))
    } catch (error) {
      response.writeHead(502).end(String(error))
    }
  })
  server.on('error', () => {})
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => {
    clearInterval(checks)
    server.close()
    server.closeAllConnections()
    for (const { agent } of replicas) agent.destroy()
  })
  return { origin: `http://127.0.0.1:${(server.address() as { port: number }).port}` }
}

/** A proxy of this machine, with the settings that `deploy/` has for it, on other ports. */
function startProgram(name: string, file: string, run: (dir: string, settings: string) => string[]): StartProxy {
  return async (t, ports) => {
    const path = ['/usr/sbin', '/usr/local/sbin', '/usr/bin', '/usr/local/bin', '/opt/homebrew/bin']
      .map((dir) => join(dir, name))
      .find(existsSync)
    if (path === undefined) return { missing: `no ${name}` }
    const port = await freePort()
    const settings = readFileSync(join(root, 'deploy', file), 'utf8')
      .replaceAll(':3000', `:${ports[0]}`)
      .replaceAll(':3001', `:${ports[1]}`)
      .replace(/(listen |bind :)8080/, (_, before: string) => `${before.replace(':', '127.0.0.1:')}${port}`)
      .replace('listen ', 'listen 127.0.0.1:')
    const child = spawn(path, run(await newDir(t), settings), { stdio: ['ignore', 'ignore', 'inherit'] })
    const ended = once(child, 'exit')
    t.teardown(async () => {
      child.kill('SIGTERM')
      await ended
    })
    const listens = () =>
      new Promise<boolean>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => resolve(socket.destroy() !== undefined))
        socket.on('error', () => resolve(false))
      })
    await until(listens)
    return { origin: `http://127.0.0.1:${port}` }
  }
}

export const startNginx = startProgram('nginx', 'nginx.conf', (dir, settings) => {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${dir}/${kind};`,
  )
  const main = `daemon off; pid ${dir}/pid; error_log stderr crit; worker_processes 2;
    events { worker_connections 4096; }
    http { access_log off; ${temporary.join(' ')}\n${settings}\n}`
  writeFileSync(join(dir, 'nginx.conf'), main)
  return ['-p', dir, '-e', 'stderr', '-c', join(dir, 'nginx.conf')]
})

export const startHaproxy = startProgram('haproxy', 'haproxy.cfg', (dir, settings) => {
  writeFileSync(join(dir, 'haproxy.cfg'), settings)
  return ['-q', '-db', '-f', join(dir, 'haproxy.cfg')]
})
