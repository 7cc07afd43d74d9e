/** The members of an object that may be left out instead of being undefined (`exactOptionalPropertyTypes`). */
type Present<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>
}

/** The same object without the members that are undefined, for optional members whose value may be missing. */
export function omitUndefined<T extends object>(object: T): Present<T> {
  const present = {} as Record<string, unknown>
  for (const [name, value] of Object.entries(object)) if (value !== undefined) present[name] = value
  return present as Present<T>
}
