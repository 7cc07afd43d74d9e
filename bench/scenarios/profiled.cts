/*
 * Loaded into the service by `NODE_OPTIONS=--require`: the first SIGUSR2 begins a CPU profile of the thread that answers,
 * the second ends it and writes it to PROFILE_FILE. In CommonJS, because an ES module would start libuv's threads before
 * `start.cts` says how many.
 */
const { Session } = process.getBuiltinModule('node:inspector')
const { renameSync, writeFileSync } = process.getBuiltinModule('node:fs')

const samplingIntervalUs = 200
const file = process.env['PROFILE_FILE'] as string
const session = new Session()
session.connect()

process.once('SIGUSR2', () => {
  session.post('Profiler.enable')
  session.post('Profiler.setSamplingInterval', { interval: samplingIntervalUs })
  session.post('Profiler.start')
  process.once('SIGUSR2', () => {
    session.post('Profiler.stop', (error, { profile }) => {
      if (error) throw error
      writeFileSync(`${file}.part`, JSON.stringify(profile))
      renameSync(`${file}.part`, file)
    })
  })
})
