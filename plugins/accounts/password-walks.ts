/** Keys that stand one below the other are in one column; after a space, what the same keys give with shift. */
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

/** Where a character is: a position in one row of 64 columns after another. */
type Layout = (character: string) => number | undefined

const layouts: Layout[] = [
  // All characters in their order: alphabets, digits, and what skips between the two, `a1b2c3`.
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
 * Where walks begin that take the same steps again and again: `qwerty` and `9876` the same one, `1qaz2wsx3edc` the same four.
 *
 * @param text in lower case
 * @returns for each position the walks from there
 */
export function periodicWalks(text: string): Walk[][] {
  const walks: Walk[][] = Array.from(text, () => [])
  for (const layout of layouts) {
    const places = Array.from(text, layout)
    // Not a number where there is no such key, and so like no other step.
    const steps = places.slice(1).map((place, at) => (place ?? Number.NaN) - (places[at] ?? Number.NaN))
    const costs = steps.map((step) => (near.has(step) ? bitsOf.nearStep : bitsOf.farStep))
    /** How far the walks of shorter periods go from each position: what goes no further costs more. */
    const reached = new Uint16Array(text.length)
    for (let period = 1; period <= longestPeriod; period += 1) {
      let same = 0
      for (let from = steps.length - 1 - period; from >= 0; from -= 1) {
        same = steps[from] === steps[from + period] ? same + 1 : 0
        const most = same + period + 1
        if (same < period || most <= (reached[from] ?? 0)) continue
        reached[from] = most
        // One key again and again is a copy.
        if (period === 1 && steps[from] === 0) continue
        const cost = costs.slice(from, from + period).reduce((sum, bits) => sum + bits, 0)
        walks[from]?.push({ least: 2 * period + 1, most, bits: bitsOf.start + bitsOf.length + cost })
      }
    }
  }
  return walks
}
