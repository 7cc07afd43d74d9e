import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** Where a request came from, as a session or an audit row has it. */
export interface Origin {
  /** in canonical form */
  address?: string
  userAgent?: string
}

/**
 * A place as a person would see it: the same program, whatever its version, in the same part of the net, a /16 or /32,
 * for most people get another address of their provider each day.
 */
export const placeOf = ({ address = '', userAgent = '' }: Origin): string =>
  `${vicinityOf(address)} ${userAgent.replace(/\/[^\s;)]*|\d+(?:[._]\d+)*/g, '')}`

function vicinityOf(address: string): string {
  if (!isIP(address)) return address
  const bytes = ipaddr.parse(address).toByteArray()
  return bytes.slice(0, bytes.length === 4 ? 2 : 4).join('.')
}

/** Programs by what their user agent has; each also has the names of those below, to be taken for them. */
const programs: [token: string, name: string][] = [
  ['KAKAOTALK', 'KakaoTalk'],
  ['NAVER(', 'NAVER'],
  ['Whale/', 'Whale'],
  ['SamsungBrowser/', 'Samsung Internet'],
  ['OPR/', 'Opera'],
  ['Vivaldi/', 'Vivaldi'],
  ['Edg', 'Edge'],
  ['Firefox/', 'Firefox'],
  ['FxiOS/', 'Firefox'],
  ['CriOS/', 'Chrome'],
  ['Chrome/', 'Chrome'],
  ['Safari/', 'Safari'],
]
const systems: [token: string, name: string][] = [
  ['iPhone', 'iPhone'],
  ['iPad', 'iPad'],
  ['Android', 'Android'],
  ['Windows', 'Windows'],
  ['CrOS', 'ChromeOS'],
  ['Mac OS X', 'macOS'],
  ['Linux', 'Linux'],
]
/** The name of a program as RFC 9110 §10.1.5 has it, where it is one word without a dot: no address of a page. */
const ownName = /^(?!Mozilla)[A-Za-z][A-Za-z0-9_-]{0,31}(?=\/|$)/

/**
 * Names a device for people, such as `Firefox, Windows`. What is told is out of a list or a single word: anybody can
 * send any words as a user agent.
 */
export function deviceOf({ userAgent = '' }: Origin): string | undefined {
  const find = (list: [string, string][]) => list.find(([token]) => userAgent.includes(token))?.[1]
  const names = [find(programs) ?? ownName.exec(userAgent)?.[0], find(systems)].filter(Boolean)
  return names.length > 0 ? names.join(', ') : undefined
}
