/* The ceiling: the same Fastify with two routes that do nothing. */
import formbody from '@fastify/formbody'
import Fastify from 'fastify'

const app = Fastify()
await app.register(formbody)
app.get('/', async () => ({ message: 'Hello' }))
app.post('/', async () => ({ message: 'Hello' }))
console.log(JSON.stringify({ address: await app.listen({ host: '127.0.0.1', port: 0 }) }))
