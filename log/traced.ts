/**
 * Gives each call of a function a span, as a part of the request that it is made for. Where nothing is traced it is the
 * function itself.
 */
export type Traced = <Work extends (...args: never[]) => unknown>(name: string, work: Work) => Work

/** The traces of a process: `process/tracing.ts`. */
export interface Tracing {
  traced: Traced
  /** Sends what is left. @param withinMs what is not sent by then is lost */
  end(withinMs: number): Promise<void>
}

export const untraced: Traced = (_name, work) => work

/** A store, or anything else, with its methods traced by their names. */
export function tracedMethods<T extends object>(traced: Traced, prefix: string, object: T): T {
  if (traced === untraced) return object
  const methods = new Map<unknown, unknown>()
  return new Proxy(object, {
    get(target, name) {
      const member = Reflect.get(target, name)
      if (typeof member !== 'function') return member
      if (!methods.has(member)) methods.set(member, traced(`${prefix}.${String(name)}`, member.bind(target)))
      return methods.get(member)
    },
  })
}

/** Whether the environment asks for traces, by the variables that OpenTelemetry has for it. */
export function wantsTraces(env: Record<string, string | undefined>): boolean {
  const endpoint = env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] || env['OTEL_EXPORTER_OTLP_ENDPOINT']
  const isOff = env['OTEL_SDK_DISABLED']?.trim().toLowerCase() === 'true' || env['OTEL_TRACES_EXPORTER'] === 'none'
  return Boolean(endpoint) && !isOff
}
