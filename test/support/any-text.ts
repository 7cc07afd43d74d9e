import fc from 'fast-check'

const properties = ['__proto__', 'constructor', 'toString', 'valueOf', 'hasOwnProperty', '__defineGetter__', 'length']
const codePoint = fc.oneof(
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0x7f }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xd7ff }) },
  { weight: 2, arbitrary: fc.integer({ min: 0xe000, max: 0x10ffff }) },
)

/**
 * Texts of any code points, and now and then the name of a property that every object has. As `fc.string` with
 * `unit: 'binary'`, which spends a second on a table of all code points.
 */
export function anyText({ minLength = 0, maxLength = 10 } = {}): fc.Arbitrary<string> {
  const fitting = properties.filter(({ length }) => length >= minLength && length <= maxLength)
  const text = fc.array(codePoint, { minLength, maxLength }).map((points) => String.fromCodePoint(...points))
  return fitting.length === 0
    ? text
    : fc.oneof({ weight: 20, arbitrary: text }, { weight: 1, arbitrary: fc.constantFrom(...fitting) })
}
