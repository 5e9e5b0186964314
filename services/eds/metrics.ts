import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Publisher } from './publisher.ts';
import type { StreamList } from './stream-list.ts';

export interface Metrics {
  readonly acks: Counter;
  readonly nacks: Counter;
  readonly pushes: Counter;
}

/** A histogram of how long a change took to the last stream, in seconds; from the debounce of 100 ms to what nobody should see. */
export function createPropagation(registry: Registry): Histogram {
  return new Histogram({
    name: 'kura_eds_propagation_seconds',
    help: 'From a change in Kubernetes to the last stream having its answer.',
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
  /** When the API last said anything, in milliseconds since the epoch: the older of the two watches. */
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
  gauge('kura_eds_endpoints_held', 'Shards that vanished in a collapse and are kept for now.', () => publisher.held.length);
  gauge('kura_eds_endpoints_refused', 'Endpoints that are left out or changed, as the log says.', () => publisher.refused.length);
  gauge('kura_eds_kubernetes_contact_age_seconds', 'Time since the Kubernetes API last said anything.', () => {
    const at = lastContact();
    return at === undefined ? undefined : (Date.now() - at) / 1_000;
  });
  gauge('kura_eds_streams', 'Open streams.', () => streams.size);
  gauge('kura_eds_streams_behind', 'Streams that have not got the newest assignment yet.', () => streams.behind);
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
  total('kura_eds_refusals_total', 'Endpoints refused, each once as long as it stays refused.', () => publisher.refusals);
  total('kura_eds_collapses_total', 'Times that most shards vanished at once and were kept for a while.', () => publisher.collapses);
  return {
    acks: new Counter({ name: 'kura_eds_acks_total', help: 'Answers that a client took.', registers }),
    nacks: new Counter({ name: 'kura_eds_nacks_total', help: 'Answers that a client refused.', registers }),
    pushes: new Counter({ name: 'kura_eds_pushes_total', help: 'Answers sent.', registers }),
  };
}
