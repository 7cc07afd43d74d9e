import { Settings } from '../config.ts'

/** Headings of `.env.example`, each above the setting that it begins with; the order is the schema's. */
const headings: Partial<Record<keyof Settings, string>> = {
  HOST: 'Where it listens, and what it logs',
  DATABASE_URL: 'The store, and the secret that seals what is in it',
  AUTH_ISSUER: 'Access tokens: what they say, and the keys that sign them',
  AUTH_ACCESS_TTL: 'How long tokens and sessions live',
  AUTH_SIGNUP: 'Accounts and passwords',
  AUTH_ARGON2_MEMORY: 'Password hashing: its cost, and how much of it at once',
  AUTH_MAIL_FROM: 'E-mail',
  AUTH_TRUSTED_PROXIES: 'What is around it: proxies, browsers, monitoring',
  AUTH_SHUTDOWN_GRACE: 'Stopping, and connections that are idle',
  AUTH_INSECURE: 'For tests only',
}

/** Their defaults depend on the machine; the description says how. */
const ofTheMachine: (keyof Settings)[] = ['AUTH_HASH_CONCURRENCY']

const preface = `
# Every setting of Latchkey. What is commented out shows the default; nothing has to be set.
# A copy named .env is read by npm start and latchkey, from the directory they are started in, and by Docker Compose.
# What is in the environment already wins.
# Durations are written 90, 90s, 10m, 12h or 30d.
`.trim()

/** The text of `.env.example`: all settings with their descriptions and defaults, commented out. */
export function renderEnvExample(): string {
  const entries = Object.entries(Settings.properties).map(([name, schema]) => {
    const heading = headings[name as keyof Settings]
    const values = schema.anyOf ? ` (${schema.anyOf.map((one: { const: string }) => one.const).join(', ')})` : ''
    const value = ofTheMachine.includes(name as keyof Settings) ? '' : (schema.default ?? '')
    return `${heading ? `\n## ${heading}\n` : ''}\n# ${schema.description}${values}\n#${name}=${value}\n`
  })
  return `${preface}\n${entries.join('')}`
}
