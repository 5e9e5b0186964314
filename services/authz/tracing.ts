/**
 * Sends a span of each sampled check, and of the TokenReview that it needs, to an OpenTelemetry collector. A span has no key and no token.
 * main.ts imports this file only when a collector is set.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { type Attributes, type Context, ROOT_CONTEXT, SpanKind, TraceFlags, type Tracer, trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, type SpanExporter, TracerProvider } from '@opentelemetry/sdk-trace';
import type { Logger } from '../shared/log.ts';
import type { TraceContext } from '../shared/trace-context.ts';
import { type Decide, type Decision, outcomeOf, type Question } from './decision.ts';
import type { Review } from './identity/token-review.ts';

/** While the collector does not answer, further spans are dropped. */
const maxQueuedSpans = 2_048;
const batchMs = 1_000;
const exportTimeoutMs = 1_000;

interface TracingOptions {
  /** For OTLP over gRPC. */
  readonly url: string;
  readonly log: Logger;
}

export function startTracing({ url, log }: TracingOptions): CheckTracing {
  const exporter = reporting(new OTLPTraceExporter({ url, timeoutMillis: exportTimeoutMs }), log);
  return new CheckTracing(
    new TracerProvider({
      resource: resourceFromAttributes({ 'service.name': 'kura-authz' }),
      spanProcessors: [
        new BatchSpanProcessor({
          exporter,
          maxQueueSize: maxQueuedSpans,
          scheduledDelayMillis: batchMs,
          exportTimeoutMillis: 2 * exportTimeoutMs,
        }),
      ],
    }),
  );
}

class CheckTracing {
  readonly #provider: TracerProvider;
  readonly #tracer: Tracer;
  /** The span of the check that runs, for its review. */
  readonly #current = new AsyncLocalStorage<Context>();

  constructor(provider: TracerProvider) {
    this.#provider = provider;
    this.#tracer = provider.getTracer('kura-authz');
  }

  /** Returns the same decisions, with a span for each sampled check. */
  traceChecks(decide: Decide): Decide {
    return (question) => {
      const { trace: parent } = question;
      if (parent === undefined || !parent.isSampled) return decide(question);
      return this.#measure(
        'check',
        { kind: SpanKind.SERVER, parent: contextOf(parent) },
        () => decide(question),
        (decision) => attributesOf(question, decision),
      );
    };
  }

  /** The same review, with a span if a sampled check has started it. */
  traceReviews(review: Review): Review {
    return (token, options) => {
      const parent = this.#current.getStore();
      if (parent === undefined) return review(token, options);
      return this.#measure(
        'TokenReview',
        { kind: SpanKind.CLIENT, parent },
        () => review(token, options),
        ({ kind }) => ({
          'kura.result': kind,
        }),
      );
    };
  }

  /** Sends the last spans. */
  close(): Promise<void> {
    return this.#provider.shutdown();
  }

  async #measure<T>(
    name: string,
    { kind, parent }: { kind: SpanKind; parent: Context },
    work: () => Promise<T>,
    describe: (result: T) => Attributes,
  ): Promise<T> {
    const span = this.#tracer.startSpan(name, { kind }, parent);
    try {
      const result = await this.#current.run(trace.setSpan(parent, span), work);
      span.setAttributes(describe(result));
      return result;
    } finally {
      span.end();
    }
  }
}

function contextOf({ traceId, spanId }: TraceContext): Context {
  return trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags: TraceFlags.SAMPLED, isRemote: true });
}

function attributesOf({ requestId }: Question, decision: Decision): Attributes {
  return {
    'kura.decision': outcomeOf(decision),
    ...(requestId === undefined ? {} : { 'kura.request_id': requestId }),
    ...('identity' in decision ? { 'kura.who': `${decision.identity.namespace}/${decision.identity.serviceAccount}` } : {}),
    ...('rule' in decision ? { 'kura.rule': decision.rule } : {}),
    ...('cached' in decision ? { 'kura.cached': decision.cached } : {}),
  };
}

/** Logs each batch that the collector does not accept. */
function reporting(exporter: SpanExporter, log: Logger): SpanExporter {
  return {
    export: (spans, done) =>
      exporter.export(spans, (result) => {
        if (result.error !== undefined)
          log.warn({ spans: spans.length, reason: result.error.message }, 'the collector did not accept spans; they are lost');
        done(result);
      }),
    shutdown: () => exporter.shutdown(),
  };
}
