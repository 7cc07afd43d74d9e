/*
 * Builds of two or more revisions, compared in turn, to tell what a change costs: `npm run bench:pairs --
 * main=../main/dist branch=dist`, with `--seconds` of a measurement and `--rounds`.
 */
import { resolve } from 'node:path'
import { compare } from './compare.ts'
import { readFlags, runScenario } from './scenario.ts'

const { flags, positionals } = readFlags({ seconds: 4, rounds: 7 })

await runScenario(async () => {
  if (positionals.length < 2) throw new Error('expected two builds or more, such as main=../main/dist branch=dist')
  const variants = positionals.map((text) => {
    const [name = '', dir = name] = text.split('=')
    return { name, program: resolve(dir, 'start.cjs') }
  })
  await compare(variants, flags.rounds, flags.seconds)
})
