import t from 'tap'
import { readConfig } from '../config.ts'

t.test('every default is good on its own', async (t) => {
  const config = readConfig({})
  t.equal(config.PORT, 3000)
  t.equal(config.AUTH_ISSUER, 'http://localhost:3000')
  t.equal(config.AUTH_AUDIENCE, config.AUTH_ISSUER)
  t.equal(config.AUTH_ACCESS_TTL, 600, 'durations are seconds')
  t.equal(config.AUTH_REFRESH_MAX_TTL, 90 * 86_400)
  t.same(config.warnings, [])
})

t.test('durations are 90, 90s, 10m, 12h or 30d and nothing else', async (t) => {
  for (const [text, seconds] of Object.entries({ '90': 90, '90s': 90, '10m': 600, '12h': 43_200, '30d': 2_592_000 })) {
    t.equal(readConfig({ AUTH_ACCESS_TTL: text }).AUTH_ACCESS_TTL, seconds, text)
  }
  for (const text of ['0', '-1', '1.5h', '10 m', '10M', '1w', '1e3', 'ten', '٣٠']) {
    t.throws(() => readConfig({ AUTH_ACCESS_TTL: text }), { message: /^AUTH_ACCESS_TTL: expected a duration .*got / }, text)
  }
})
