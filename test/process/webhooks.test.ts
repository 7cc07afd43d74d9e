import t from 'tap'
import { cheapHashing, newDir } from '../support/basics.ts'
import { isLong, serviceAt, until } from '../support/processes.ts'
import { startReceiver, webhookSettings } from '../support/receiver.ts'
import { runProgram } from '../support/running.ts'

/*
 * `kill -9` while an event is sent, before and after the receiver has taken it. Another process goes on after half a
 * minute; the short form, in which no time passes, is in `test/spec/webhooks.test.ts`.
 */

if (isLong) t.setTimeout(300_000)
const skip = !isLong && 'npm run test:soak'

t.test(
  'whenever the sender is killed, all is told, in order, and only that of the last second again',
  { skip },
  async (t) => {
    const receiver = await startReceiver(t)
    const settings = {
      ...{ ...cheapHashing, AUTH_DATA_DIR: await newDir(t), AUTH_WORKERS: '2' },
      ...(await webhookSettings(t, [{ url: receiver.url, secret: receiver.secret, events: ['user.created'] }])),
    }
    const made: string[] = []
    for (const isTaken of [false, true]) {
      const { child, listening, ended } = await runProgram(t, settings, { cwd: await newDir(t) })
      const { signUp } = serviceAt(await listening())
      const before = receiver.received.length
      receiver.answer = (_, response) => {
        if (receiver.received.length < before + 2) return void response.writeHead(204).end()
        if (isTaken) response.writeHead(204).end()
        child.kill('SIGKILL')
      }
      for (let i = 0; i < 4; i++) {
        const { body } = await signUp(`user-${made.length}`).catch(() => ({ body: undefined }))
        if (body) made.push(body.id)
      }
      await ended
      receiver.answer = 204
      const next = await runProgram(t, settings, { cwd: await newDir(t) })
      const { signUp: signUpThere } = serviceAt(await next.listening())
      made.push((await signUpThere(`last-${made.length}`)).body.id)
      const told = () => [...new Set(receiver.received.map(({ data }) => data.user))]
      await until(async () => told().length >= made.length, 60_000)
      t.same(told(), made, 'in order')
      // What it took since the sender had saved its position, which is each second.
      t.ok(receiver.received.length - before - 5 <= 2, 'and little twice')
      await next.stop()
    }
  },
)
