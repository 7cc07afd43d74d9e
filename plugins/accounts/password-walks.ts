/** Rows of keys, aligned by column; after a space, the same keys with shift. */
const keyboards = [
  // English, with shift too
  ['1234567890-= !@#$%^&*()_+', 'qwertyuiop[]\\ QWERTYUIOP{}|', 'asdfghjkl;\' ASDFGHJKL:"', 'zxcvbnm,./ ZXCVBNM<>?'],
  ['1234567890', 'azertyuiop', 'qsdfghjklm', 'wxcvbn,;:!'],
  ['1234567890', 'qwertzuiop', 'asdfghjkl', 'yxcvbnm,.-'],
  ['1234567890', 'йцукенгшщзхъ', 'фывапролджэ', 'ячсмитьбю'],
  ['789', '456', '123', '0'],
  ['가나다라마바사아자차카타파하'],
  ['あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん'],
]

const rowLength = 64
const near = new Set([-1, 0, 1].flatMap((row) => [-1, 0, 1].map((column) => row * rowLength + column)))
const longestPeriod = 4
const bitsOf = { start: 3, nearStep: 1.5, farStep: 4, length: 2 }

/** The position of a character: row times 64 plus column. */
type Layout = (character: string) => number | undefined

const layouts: Layout[] = [
  // Characters by code: alphabets, digits, and sequences that alternate between them, `a1b2c3`.
  (character) => character.charCodeAt(0),
  ...keyboards.map((rows): Layout => {
    const keys = new Map(
      rows.flatMap((row, y) =>
        row.split(' ').flatMap((shift) => Array.from(shift, (key, x) => [key, y * rowLength + x] as const)),
      ),
    )
    return (character) => keys.get(character)
  }),
]

export interface Walk {
  least: number
  most: number
  bits: number
}

/**
 * Finds the walks that repeat their steps: one step in `qwerty` and `9876`, four in `1qaz2wsx3edc`.
 *
 * @param text in lower case
 * @returns the walks that begin at each position
 */
export function periodicWalks(text: string): Walk[][] {
  const walks: Walk[][] = Array.from(text, () => [])
  for (const layout of layouts) {
    const places = Array.from(text, layout)
    // NaN for a missing key, and so equal to no other step.
    const steps = places.slice(1).map((place, at) => (place ?? Number.NaN) - (places[at] ?? Number.NaN))
    const costs = steps.map((step) => (near.has(step) ? bitsOf.nearStep : bitsOf.farStep))
    /**
     * how far the walks of shorter periods reach from each position: a longer period that reaches no further costs more
     */
    const reached = new Uint16Array(text.length)
    for (let period = 1; period <= longestPeriod; period += 1) {
      let same = 0
      for (let from = steps.length - 1 - period; from >= 0; from -= 1) {
        same = steps[from] === steps[from + period] ? same + 1 : 0
        const most = same + period + 1
        if (same < period || most <= (reached[from] ?? 0)) continue
        reached[from] = most
        // A repeated key is a copy.
        if (period === 1 && steps[from] === 0) continue
        const cost = costs.slice(from, from + period).reduce((sum, bits) => sum + bits, 0)
        walks[from]?.push({ least: 2 * period + 1, most, bits: bitsOf.start + bitsOf.length + cost })
      }
    }
  }
  return walks
}
