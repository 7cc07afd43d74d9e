import type { Locale } from '../../domain/user.ts'
import { en } from './en.ts'
import { ko } from './ko.ts'

/** Every language says the same things: what one lacks, the compiler finds. */
export type PageTexts = typeof en

const texts: Record<Locale, PageTexts> = { en, ko }

export const textsOf = (locale: Locale): PageTexts => texts[locale]
