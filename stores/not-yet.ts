import type { BrowserSessionTable } from './tables/browser-sessions.ts'
import type { ConsentTable } from './tables/consents.ts'

const notYet = () => Promise.reject(new Error('not yet'))

/** Replaced in the next commits, table by table. */
export const comingTables = {
  createBrowserSession: notYet,
  findBrowserSession: notYet,
  renewBrowserSession: notYet,
  seeBrowserSession: notYet,
  listBrowserSessions: notYet,
  listChildren: notYet,
  endBrowserSession: notYet,
  findConsents: notYet,
  changeConsents: notYet,
} satisfies BrowserSessionTable & ConsentTable
