import { Counter, Gauge, type Registry } from 'prom-client';
import type { Publisher } from './publisher.ts';

export interface Metrics {
  readonly streams: Gauge;
  readonly acks: Counter;
  readonly nacks: Counter;
  readonly pushes: Counter;
}

export function createMetrics({
  registry,
  publisher,
  lastContact,
}: {
  registry: Registry;
  publisher: Publisher;
  lastContact: () => number | undefined;
}): Metrics {
  const registers = [registry];
  new Gauge({
    name: 'kura_eds_endpoints',
    help: 'Shards in the assignment by zone and health.',
    labelNames: ['zone', 'health'],
    registers,
    collect() {
      this.reset();
      for (const { zone, health } of publisher.current?.shards ?? []) this.inc({ zone, health: health.toLowerCase() });
    },
  });
  new Gauge({
    name: 'kura_eds_kubernetes_contact_age_seconds',
    help: 'Time since the Kubernetes API last said anything.',
    registers,
    collect() {
      const at = lastContact();
      if (at !== undefined) this.set((Date.now() - at) / 1000);
    },
  });
  return {
    streams: new Gauge({ name: 'kura_eds_streams', help: 'Connected streams.', registers }),
    acks: new Counter({ name: 'kura_eds_acks_total', help: 'Assignments that an Envoy took.', registers }),
    nacks: new Counter({ name: 'kura_eds_nacks_total', help: 'Assignments that an Envoy refused.', registers }),
    pushes: new Counter({ name: 'kura_eds_pushes_total', help: 'Assignments sent.', registers }),
  };
}
