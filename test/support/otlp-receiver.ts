/** A receiver of OTLP over gRPC, as a collector of OpenTelemetry has it, which keeps the received spans. */
import path from 'node:path';
import { loadPackageDefinition, type ServerUnaryCall, type ServiceDefinition, type sendUnaryData } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { startGrpcServer } from '../../services/shared/grpc.ts';

export interface ReceivedSpan {
  /** `service.name` of its resource. */
  readonly service: string;
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for the first span of a trace. */
  readonly parentId: string;
  readonly attributes: Readonly<Record<string, unknown>>;
}

export interface OtlpReceiver {
  readonly port: number;
  readonly spans: ReceivedSpan[];
  close(): Promise<void>;
}

interface KeyValue {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>> & { readonly value: string };
}
interface Exported {
  readonly resource_spans: readonly {
    readonly resource: { readonly attributes: readonly KeyValue[] };
    readonly scope_spans: readonly { readonly spans: readonly Span[] }[];
  }[];
}
interface Span {
  readonly trace_id: Buffer;
  readonly span_id: Buffer;
  readonly parent_span_id: Buffer;
  readonly name: string;
  readonly attributes: readonly KeyValue[];
}

export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const loaded = loadSync(path.join(import.meta.dirname, 'otlp.proto'), { keepCase: true, longs: Number, oneofs: true, defaults: true });
  const name = 'opentelemetry.proto.collector.trace.v1.TraceService';
  const service = loaded[name] as ServiceDefinition;
  loadPackageDefinition(loaded);
  const spans: ReceivedSpan[] = [];
  const export_ = ({ request }: ServerUnaryCall<Exported, object>, callback: sendUnaryData<object>): void => {
    for (const { resource, scope_spans } of request.resource_spans) {
      const { 'service.name': from } = readAttributes(resource.attributes);
      for (const span of scope_spans.flatMap((scope) => scope.spans)) spans.push(readSpan(String(from), span));
    }
    callback(null, {});
  };
  const { address, close } = await startGrpcServer({
    target: '127.0.0.1:0',
    graceMs: 0,
    register: (server) => server.addService(service, { Export: export_ }),
  });
  return { port: Number(address.split(':').at(-1)), spans, close };
}

function readSpan(service: string, { name, trace_id, span_id, parent_span_id, attributes }: Span): ReceivedSpan {
  return {
    service,
    name,
    traceId: trace_id.toString('hex'),
    spanId: span_id.toString('hex'),
    parentId: parent_span_id.toString('hex'),
    attributes: readAttributes(attributes),
  };
}

function readAttributes(attributes: readonly KeyValue[]): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, value[value.value]]));
}
