/** Metrics that each scrape reads from plain numbers. */
import { Counter, Gauge, type Registry } from 'prom-client';

export function registerGauge(registry: Registry, name: string, help: string, read: () => number): void {
  registry.registerMetric(
    new Gauge({
      name,
      help,
      registers: [],
      collect() {
        this.set(read());
      },
    }),
  );
}

export function registerTotal(registry: Registry, name: string, help: string, read: () => number): void {
  registry.registerMetric(
    new Counter({
      name,
      help,
      registers: [],
      collect() {
        this.reset();
        this.inc(read());
      },
    }),
  );
}

/** Registers a counter with one label. `counts` has a number for each label value. Every scrape reads the same object. */
export function registerTotals(
  registry: Registry,
  { name, help, label }: { name: string; help: string; label: string },
  counts: Readonly<Record<string, number>>,
): void {
  registry.registerMetric(
    new Counter({
      name,
      help,
      labelNames: [label],
      registers: [],
      collect() {
        this.reset();
        for (const [value, count] of Object.entries(counts)) this.inc({ [label]: value }, count);
      },
    }),
  );
}
