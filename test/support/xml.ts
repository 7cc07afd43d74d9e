import type { Test } from 'tap'

/**
 * XML 1.0, as far as the charts use it: every element is closed, attributes are quoted, and nothing else has a `<` or a
 * bare `&`.
 */
export function isWellFormed(t: Test, xml: string): void {
  const open: string[] = []
  const rest = xml.replace(
    /<(\/?)([a-z]+)((?: [\w:-]+="[^"<]*")*)(\/?)>/gi,
    (_, isEnd: string, name: string, _attributes: string, isEmpty: string) => {
      if (isEnd) t.equal(open.pop(), name)
      else if (!isEmpty) open.push(name)
      return ''
    },
  )
  t.strictSame(open, [])
  t.notMatch(rest, /[<>]|&(?!(amp|lt|gt|quot);)/)
  t.notMatch(xml, /NaN|undefined|Infinity/)
}
