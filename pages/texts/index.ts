import type { Locale } from '../../domain/user.ts'
import { en } from './en/index.ts'
import { ko } from './ko/index.ts'

/**
 * What the pages say: a folder for each language, and in it a file for each group of pages. Every language says the same
 * things: what one lacks, the compiler finds.
 */
export type PageTexts = typeof en

const texts: Record<Locale, PageTexts> = { en, ko }

export const textsOf = (locale: Locale): PageTexts => texts[locale]
