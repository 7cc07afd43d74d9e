import { setTimeout as sleep } from 'node:timers/promises'
import { type Context, context, DiagLogLevel, diag, SpanStatusCode, trace } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import {
  detectResources,
  envDetector,
  resourceFromAttributes,
  serviceInstanceIdDetector,
} from '@opentelemetry/resources'
import { BatchSpanProcessor, NodeTracerProvider, type ReadableSpan } from '@opentelemetry/sdk-trace-node'
import { version } from '../config/version.ts'
import type { Traced, Tracing } from '../log/traced.ts'

/*
 * Traces by OpenTelemetry, sent by OTLP. Loaded only where `wantsTraces` (`log/traced.ts`) says so. The packages read
 * their settings, OTEL_*, from the environment by themselves.
 */

/** All that a span says. Of a request that is its method, the pattern of its route, its id and how it went. */
const attributesKept = new Set([
  'http.request.method',
  'http.route',
  'http.response.status_code',
  'error.type',
  'latchkey.request_id',
])

/** Warnings within a minute: a collector that is away is one, each time that something is to be sent. */
const warningsAtMost = 2
const minuteMs = 60_000

/** Keeps from the collector what instrumentation adds: paths with their queries, and words of errors. */
class DiscreetProcessor extends BatchSpanProcessor {
  override onEnd(span: ReadableSpan): void {
    const { attributes, status } = span
    for (const name of Object.keys(attributes)) if (!attributesKept.has(name)) delete attributes[name]
    delete status.message
    // The request was refused, and that is no failure of the service (semantic conventions of HTTP servers).
    if (Number(attributes['http.response.status_code']) < 500) status.code = SpanStatusCode.UNSET
    super.onEnd(span)
  }
}

/** @param warn is told what is wrong with the settings, and that spans cannot be sent */
export function startTracing(warn: (line: string) => void): Tracing {
  tellProblems(warn)
  const protocol = process.env['OTEL_EXPORTER_OTLP_TRACES_PROTOCOL'] ?? process.env['OTEL_EXPORTER_OTLP_PROTOCOL']
  if (protocol && protocol !== 'http/protobuf')
    warn(`OTEL_EXPORTER_OTLP_PROTOCOL: traces are sent as http/protobuf, not as ${JSON.stringify(protocol)}`)
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'latchkey', 'service.version': version }).merge(
      detectResources({ detectors: [serviceInstanceIdDetector, envDetector] }),
    ),
    spanProcessors: [new DiscreetProcessor(new OTLPTraceExporter())],
  })
  provider.register()
  const tracer = provider.getTracer('latchkey', version)

  const traced: Traced = (name, work) =>
    ((...args: never[]) => {
      const active = context.active()
      // Not of a request, or of one that is not sampled.
      if (trace.getSpan(active)?.isRecording() !== true) return work(...args)
      const span = tracer.startSpan(name, {}, active)
      const settle = () => span.end()
      try {
        const within = trace.setSpan(active, span)
        const result = context.with(within, () => work(...keepContext(args, within)))
        if (result instanceof Promise) result.then(settle, settle)
        else settle()
        return result
      } catch (error) {
        settle()
        throw error
      }
    }) as typeof work

  return {
    traced,
    async end(withinMs) {
      await Promise.race([provider.shutdown().catch(() => {}), sleep(withinMs)])
    },
  }
}

/** What is called back from a transaction that others share is still done for the request that gave it. */
const keepContext = (args: never[], within: Context): never[] =>
  args.map((arg) => (typeof arg === 'function' ? context.bind(within, arg) : arg))

function tellProblems(warn: (line: string) => void): void {
  let sinceMs = Number.NEGATIVE_INFINITY
  let told = 0
  const tell = (text: string) => {
    const now = performance.now()
    if (now - sinceMs > minuteMs) {
      sinceMs = now
      told = 0
    }
    told += 1
    if (told <= warningsAtMost) warn(`traces: ${wordsOf(text)}`)
  }
  const ignore = () => {}
  const logger = { error: tell, warn: tell, info: ignore, debug: ignore, verbose: ignore }
  diag.setLogger(logger, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true })
}

/** Errors come as JSON with their stack, and whatever the collector has answered. */
function wordsOf(text: string): string {
  try {
    const { message, code } = JSON.parse(text)
    return String(message || code).slice(0, 200)
  } catch {
    return text.slice(0, 200)
  }
}
