import type { Source } from '../imported-user.ts'
import { latchkey } from './latchkey.ts'

/** By the names that `--from` takes. */
export const sources = { latchkey } satisfies Record<string, Source>

export type SourceName = keyof typeof sources
