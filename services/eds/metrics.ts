import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Publisher } from './publisher.ts';
import type { StreamList } from './stream-list.ts';

export interface Metrics {
  readonly acks: Counter;
  readonly nacks: Counter;
  readonly pushes: Counter;
}

/**
 * Time from a change to the last stream, in seconds. The buckets begin at the debounce of 100 ms and end at times that indicate a fault.
 */
export function createPropagation(registry: Registry): Histogram {
  return new Histogram({
    name: 'kura_eds_propagation_seconds',
    help: 'Time from a change in Kubernetes until the last stream has its response.',
    buckets: [0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30],
    registers: [registry],
  });
}

export function createMetrics({
  registry,
  publisher,
  streams,
  lastContact,
}: {
  registry: Registry;
  publisher: Publisher;
  streams: StreamList;
  /** When the API last sent anything, in milliseconds since the epoch. Of the two watches, the older time. */
  lastContact: () => number | undefined;
}): Metrics {
  const registers = [registry];
  const gauge = (name: string, help: string, read: () => number | undefined): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        const value = read();
        if (value !== undefined) this.set(value);
      },
    });
  };
  new Gauge({
    name: 'kura_eds_endpoints',
    help: 'Shards in the assignment by zone and health.',
    labelNames: ['zone', 'health'],
    registers,
    collect() {
      this.reset();
      for (const { zone, health } of publisher.shards) this.inc({ zone, health: health.toLowerCase() });
    },
  });
  gauge('kura_eds_endpoints_held', 'Shards that were lost in a collapse and are kept as they were.', () => publisher.held.length);
  gauge('kura_eds_assignment_stale', '1 while eds serves the assignment of the process before it, because no list has arrived.', () =>
    Number(publisher.isStale),
  );
  gauge('kura_eds_endpoints_refused', 'Endpoints that eds leaves out or changes; the log has the reasons.', () => publisher.refused.length);
  const startedAt = Date.now();
  gauge(
    'kura_eds_kubernetes_contact_age_seconds',
    'Time since the last data from the Kubernetes API, or since the start.',
    () => (Date.now() - (lastContact() ?? startedAt)) / 1_000,
  );
  gauge('kura_eds_streams', 'Open streams.', () => streams.size);
  gauge('kura_eds_streams_behind', 'Streams that have not received the newest assignment yet.', () => streams.behind);
  const total = (name: string, help: string, read: () => number): void => {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  };
  total('kura_eds_refusals_total', 'Endpoints refused. An endpoint that stays refused counts once.', () => publisher.refusals);
  total(
    'kura_eds_collapses_total',
    'Collapses: most shards vanished or lost their health together, and eds kept them for a time.',
    () => publisher.collapses,
  );
  return {
    acks: new Counter({ name: 'kura_eds_acks_total', help: 'Responses that a client accepted.', registers }),
    nacks: new Counter({ name: 'kura_eds_nacks_total', help: 'Responses that a client rejected.', registers }),
    pushes: new Counter({ name: 'kura_eds_pushes_total', help: 'Responses sent.', registers }),
  };
}
