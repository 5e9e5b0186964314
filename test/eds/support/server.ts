/** An xDS server of the test's own on a real port: eds without Kubernetes, whose shards the test sets. */
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { loadEnvoyProtos } from '../../../proto/load.ts';
import { createEncoder, type Encoder } from '../../../services/eds/encoding.ts';
import { createMetrics, createPropagation, type Metrics } from '../../../services/eds/metrics.ts';
import { Publisher } from '../../../services/eds/publisher.ts';
import { type DiscoveryServer, startDiscoveryServer } from '../../../services/eds/server.ts';
import { StreamList } from '../../../services/eds/stream-list.ts';
import type { Candidate } from '../../../services/shared/shard-endpoints.ts';

export const protos = loadEnvoyProtos().envoy;

interface TestServer {
  readonly address: string;
  readonly publisher: Publisher;
  readonly streams: StreamList;
  readonly metrics: Metrics;
  readonly registry: Registry;
  readonly server: DiscoveryServer;
  /** Log lines, parsed. */
  readonly log: readonly Record<string, unknown>[];
  /** How long each change took to the last stream, in seconds. */
  readonly propagation: readonly number[];
  /** How many assignments the encoder has encoded. */
  encodings(): number;
  /** Makes these the shards and publishes at once. */
  set(candidates: readonly Candidate[]): void;
  /** The value of one metric without labels. */
  metric(name: string): Promise<number>;
}

/** `initial` undefined: no list has come yet. */
export async function startTestServer(
  t: ExecutionContext,
  {
    initial,
    placement = 'global',
    maxStreams = 100,
    maxStreamsPerPeer = 100,
    debounceMs = 0,
    maxDebounceMs = 0,
  }: {
    initial?: readonly Candidate[];
    placement?: 'global' | 'zone';
    maxStreams?: number;
    maxStreamsPerPeer?: number;
    debounceMs?: number;
    maxDebounceMs?: number;
  } = {},
): Promise<TestServer> {
  let current = initial ?? [];
  const log: Record<string, unknown>[] = [];
  const logger = pino({ level: 'info' }, { write: (line) => void log.push(JSON.parse(line) as Record<string, unknown>) });
  const ownEncoder = createEncoder(protos);
  let encodings = 0;
  const encoder: Encoder = {
    ...ownEncoder,
    assignment: (assignment) => {
      encodings += 1;
      return ownEncoder.assignment(assignment);
    },
  };
  const publisher = new Publisher({
    name: 'kura-cache',
    placement,
    read: () => ({ candidates: current, problems: [] }),
    encoder,
    limits: { unhealthyMs: 30_000, lossDelayMs: 0, collapseShare: 1, collapseHoldMs: 30_000, returnWaitMs: 0 },
    debounceMs,
    maxDebounceMs,
    log: logger,
  });
  const registry = new Registry();
  const propagation: number[] = [];
  const histogram = createPropagation(registry);
  const streams = new StreamList({
    onLast: (seconds) => {
      propagation.push(seconds);
      histogram.observe(seconds);
    },
  });
  const metrics = createMetrics({ registry, publisher, streams, lastContact: () => Date.now() });
  if (initial !== undefined) publisher.publish();
  const server = await startDiscoveryServer(
    protos,
    { publisher, encoder, streams, maxStreams, maxStreamsPerPeer, metrics, log: logger },
    { target: '127.0.0.1:0', credentials: undefined },
  );
  t.teardown(async () => {
    publisher.close();
    await server.close();
  });
  return {
    address: server.address,
    publisher,
    streams,
    metrics,
    registry,
    server,
    log,
    propagation,
    encodings: () => encodings,
    set: (candidates) => {
      current = candidates;
      publisher.publish();
    },
    metric: async (name) => {
      const metric = await registry.getSingleMetric(name)?.get();
      return metric?.values[0]?.value ?? Number.NaN;
    },
  };
}
